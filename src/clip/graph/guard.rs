//! What a graph must not be: text that its parser would not come back from, fragments that call each other without end,
//! values larger than any CLIP's. Bundles come from elsewhere, and neither an endless loop nor a stack that has run out
//! becomes an error later; a panic inside tract does, here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tract_core::internal::*;
use tract_nnef::ast::Document;

/// tract failed at something, or panicked.
#[derive(Debug, thiserror::Error)]
#[error("tract cannot {doing}: {reason}")]
pub struct GraphError {
    doing: &'static str,
    reason: String,
}

/// Runs `work`; an error of tract, and even a panic inside it, becomes ours.
pub fn guarded<T>(
    doing: &'static str,
    work: impl FnOnce() -> TractResult<T>,
) -> Result<T, GraphError> {
    let reason = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error
            .chain()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": "),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            text.or(panic.downcast_ref::<&str>().copied())
                .unwrap_or("it panicked")
                .to_owned()
        }
    };
    Err(GraphError {
        doing,
        reason: reason.replace('\n', " "),
    })
}

/// Numbers in one value of a graph: more than the attention of a large tower at high resolution.
pub const MOST_VALUES: u64 = 1 << 28;
/// Bytes of a graph's text: those of known towers have some 100 KB.
const MOST_TEXT: usize = 4 << 20;
/// Brackets within brackets. The parser's time doubles with each; what tract writes has three.
const DEEPEST: usize = 8;
/// Signs and exclamation marks one after another, for the same reason.
const MOST_SIGNS: usize = 2;
/// Operators of one statement: each nests what it makes one deeper.
const MOST_OPERATORS: usize = 2000;
/// The one fragment that tract writes. Others could call each other in circles.
const PROPERTIES: &str = "tract_core_properties";

/// Refuses text that tract's parser would take forever for, or overflow the stack with.
pub fn text(graph: &str) -> TractResult<()> {
    ensure!(
        graph.len() <= MOST_TEXT,
        "its graph has {} bytes, more than any tower's",
        graph.len()
    );
    let (mut depth, mut signs, mut operators) = (0usize, 0, 0);
    let mut characters = graph.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' | '\'' => {
                signs = 0;
                while let Some(inside) = characters.next() {
                    match inside {
                        '\\' => {
                            characters.next();
                        }
                        '"' | '\'' => break,
                        _ => {}
                    }
                }
            }
            ';' => (signs, operators) = (0, 0),
            '(' | '[' | '{' => (depth, signs) = (depth + 1, 0),
            ')' | ']' | '}' => (depth, signs) = (depth.saturating_sub(1), 0),
            '+' | '-' | '!' => (signs, operators) = (signs + 1, operators + 1),
            '*' | '/' | '^' | '&' | '|' | '<' | '>' | '=' => operators += 1,
            '#' => bail!("its graph has a comment, which tract does not write"),
            c if c.is_whitespace() => {}
            _ => signs = 0,
        }
        ensure!(
            depth <= DEEPEST && signs <= MOST_SIGNS && operators <= MOST_OPERATORS,
            "its graph is nested deeper than any tower's"
        );
    }
    Ok(())
}

/// Refuses fragments beside the one that tract writes.
pub fn fragments(document: &Document) -> TractResult<()> {
    for fragment in &document.fragments {
        ensure!(
            fragment.decl.id.0 == PROPERTIES,
            "its graph defines `{}`, which tract does not write",
            fragment.decl.id.0
        );
    }
    ensure!(
        document.fragments.len() <= 1,
        "its properties are there twice"
    );
    Ok(())
}

/// Refuses a typed graph with a value larger than any CLIP's. The error continues a sentence about the file.
pub fn volumes(model: &TypedModel) -> Result<(), String> {
    for node in &model.nodes {
        for output in &node.outputs {
            let Some(shape) = output.fact.shape.as_concrete() else {
                continue;
            };
            let mut sizes = shape.iter();
            let volume = sizes.try_fold(1u64, |volume, &size| volume.checked_mul(size as u64));
            if volume.is_none_or(|volume| volume > MOST_VALUES) {
                return Err(format!(
                    "makes a value of shape {shape:?} at node `{}` ({}), which no CLIP needs; the file is damaged",
                    node.name,
                    node.op.name()
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_nnef::ast::parse::parse_document;

    #[test]
    fn text_that_its_parser_would_not_come_back_from_is_refused_at_once() {
        let nested = |open: &str| format!("graph g(x) -> (y) {{ y = {}1; }}", open.repeat(40));
        for hostile in [
            nested("("),
            nested("["),
            nested("-"),
            nested("- ! "),
            nested("x["),
            nested("1+").replace("1+", &"1+".repeat(1000)),
            format!("graph g(x) -> (y) {{ y = 1;{} }}", "#\n-".repeat(30)),
        ] {
            assert!(text(&hostile).is_err(), "{}", &hostile[..60]);
        }
        text("y = conv(x, w, padding = [(0, 0), (-1, 0)], border = \"((((((((((\") + 1.0e-5;")
            .unwrap();
    }

    #[test]
    fn a_fragment_that_could_call_itself_is_refused() {
        let document = |name: &str| {
            let fragment = format!("fragment {name}(x: tensor<scalar>) -> (y: tensor<scalar>)");
            let text = format!(
                "version 1.0; {fragment} {{ y = {name}(x); }} graph g(x) -> (y) {{ y = {name}(x); }}"
            );
            parse_document(&text).unwrap()
        };
        assert!(fragments(&document("f")).is_err());
    }
}
