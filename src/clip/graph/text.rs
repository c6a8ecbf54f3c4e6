//! A graph's text as tract writes it, read in one pass. tract's own parser reads all of NNEF, tries every rule at every
//! number, and takes longer for a graph than everything else that opening a model does; it still reads whatever differs.

use tract_core::internal::TractResult;
use tract_nnef::ast::parse::parse_document;
use tract_nnef::ast::{
    Argument, Assignment, Document, FragmentDecl, FragmentDef, GraphDef, Identifier, Invocation,
    LValue, Literal, RValue, Result_, TypeName, TypeSpec,
};

/// Reads `text`, which [`super::guard::text`] has let pass.
///
/// # Errors
/// Text that is not NNEF.
pub fn parse(text: &str) -> TractResult<Document> {
    match plain(text) {
        Some(document) => Ok(document),
        None => parse_document(text),
    }
}

/// The document, if it has only what tract writes for a tower.
fn plain(text: &str) -> Option<Document> {
    let mut text = Text(text);
    text.word("version")?;
    let version = text.number()?;
    text.mark(";")?;
    let mut extension = Vec::new();
    while text.word("extension").is_some() {
        let id = text.identifier()?;
        let (what, rest) = text.0.split_once(';')?;
        extension.push((id, what.trim_start().to_owned()));
        text = Text(rest);
    }
    let mut fragments = Vec::new();
    while text.word("fragment").is_some() {
        fragments.push(text.fragment()?);
    }
    text.word("graph")?;
    let id = text.identifier()?;
    let parameters = text.list(["(", ")"], Text::identifier)?;
    text.mark("->")?;
    let results = text.list(["(", ")"], Text::identifier)?;
    let body = text.body()?;
    text.skip();
    text.0.is_empty().then_some(Document {
        version,
        extension,
        fragments,
        graph_def: GraphDef {
            id,
            parameters,
            results,
            body,
        },
    })
}

/// What is still to be read. Each method reads one thing, with spaces before it, or nothing.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    fn skip(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn mark(&mut self, mark: &str) -> Option<()> {
        self.skip();
        self.0 = self.0.strip_prefix(mark)?;
        Some(())
    }

    /// The longest start that `belongs`, if it is not empty.
    fn start(&mut self, belongs: impl Fn(char) -> bool) -> Option<&'a str> {
        self.skip();
        let end = self.0.find(|c| !belongs(c)).unwrap_or(self.0.len());
        let (start, rest) = self.0.split_at(end);
        (!start.is_empty()).then(|| {
            self.0 = rest;
            start
        })
    }

    /// This word, and not a longer one.
    fn word(&mut self, word: &str) -> Option<()> {
        let before = self.0;
        if self.start(in_name)? == word {
            return Some(());
        }
        self.0 = before;
        None
    }

    /// Names that begin as a literal does, and names in quotes, are left to tract.
    fn identifier(&mut self) -> Option<Identifier> {
        let name = self.start(in_name)?;
        let literal = ["true", "false", "inf"];
        let plain = !name.starts_with(|c: char| c.is_ascii_digit())
            && !literal.iter().any(|literal| name.starts_with(literal))
            && !self.0.starts_with(['"', '\'']);
        plain.then(|| Identifier::from(name))
    }

    fn number(&mut self) -> Option<String> {
        let number = self.start(|c| in_name(c) || "+-.".contains(c))?;
        let (mantissa, exponent) = match number.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(exponent)),
            None => (number, None),
        };
        let digits = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
        let mantissa = mantissa.strip_prefix('-').unwrap_or(mantissa);
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let exponent =
            exponent.map(|exponent| exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
        let right = !whole.is_empty()
            && (digits(whole) || whole == "inf")
            && digits(part)
            && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent));
        right.then(|| number.to_owned())
    }

    /// Things between brackets, with commas.
    fn list<T>(
        &mut self,
        [open, close]: [&str; 2],
        one: impl Fn(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.mark(open)?;
        let mut list = Vec::new();
        if self.mark(close).is_some() {
            return Some(list);
        }
        loop {
            list.push(one(self)?);
            if self.mark(close).is_some() {
                return Some(list);
            }
            self.mark(",")?;
        }
    }

    /// The one fragment that tract writes: what the file says of its origin.
    fn fragment(&mut self) -> Option<FragmentDef> {
        let id = self.identifier()?;
        for mark in [
            "(",
            ")",
            "->",
            "(",
            "properties",
            ":",
            "(",
            "string",
            ",",
            "tensor",
            "<",
        ] {
            self.mark(mark)?;
        }
        for mark in ["scalar", ">", ")", "[", "]", ")"] {
            self.mark(mark)?;
        }
        let pair = [
            TypeSpec::Single(TypeName::String),
            TypeSpec::Tensor(TypeName::Scalar),
        ];
        Some(FragmentDef {
            decl: FragmentDecl {
                id,
                generic_decl: None,
                parameters: Vec::new(),
                results: vec![Result_ {
                    id: Identifier::from("properties"),
                    spec: TypeSpec::Tuple(pair.into()).array(),
                }],
            },
            body: Some(self.body()?),
        })
    }

    fn body(&mut self) -> Option<Vec<Assignment>> {
        self.mark("{")?;
        let mut body = Vec::new();
        while self.mark("}").is_none() {
            let left = LValue::Identifier(self.identifier()?);
            self.mark("=")?;
            let right = self.value()?;
            self.mark(";")?;
            body.push(Assignment { left, right });
        }
        Some(body)
    }

    /// Without operators, which fail at the mark that must follow.
    fn value(&mut self) -> Option<RValue> {
        self.skip();
        let first = self.0.chars().next()?;
        match first {
            '[' => self.list(["[", "]"], Text::value).map(RValue::Array),
            '(' => {
                let mut values = self.list(["(", ")"], Text::value)?;
                Some(match values.len() {
                    1 => values.remove(0),
                    _ => RValue::Tuple(values),
                })
            }
            '"' => {
                let (string, rest) = self.0[1..].split_once('"')?;
                self.0 = rest;
                let plain = !string.contains(['\\', '\'']);
                plain.then(|| RValue::Literal(Literal::String(string.to_owned())))
            }
            '-' | '0'..='9' => Some(RValue::Literal(Literal::Numeric(self.number()?))),
            _ if self.word("true").is_some() => Some(RValue::Literal(Literal::Logical(true))),
            _ if self.word("false").is_some() => Some(RValue::Literal(Literal::Logical(false))),
            _ => self.named(),
        }
    }

    /// A value by name, or a call.
    fn named(&mut self) -> Option<RValue> {
        let id = self.identifier()?;
        let generic_type_name = match self.mark("<") {
            Some(()) => {
                self.mark("scalar")?;
                self.mark(">")?;
                Some(TypeName::Scalar)
            }
            None => None,
        };
        self.skip();
        if !self.0.starts_with('(') {
            return generic_type_name
                .is_none()
                .then_some(RValue::Identifier(id));
        }
        Some(RValue::Invocation(Invocation {
            id,
            generic_type_name,
            arguments: self.list(["(", ")"], Text::argument)?,
        }))
    }

    fn argument(&mut self) -> Option<Argument> {
        let before = self.0;
        if let Some(id) = self.identifier()
            && self.mark("=").is_some()
        {
            let rvalue = self.value()?;
            return Some(Argument {
                id: Some(id),
                rvalue,
            });
        }
        self.0 = before;
        let rvalue = self.value()?;
        Some(Argument { id: None, rvalue })
    }
}

fn in_name(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(body: &str) -> String {
        format!(
            "version 1.0;\n\nextension tract_registry tract_core;\nextension tract_symbol batch;\n\n\
             fragment tract_core_properties(\n) -> (properties: (string, tensor<scalar>)[])\n{{\n  \
             properties = [(\"a.b\", tract_core_cast(8, to = \"i64\")), (\"name\", \"py\")];\n}}\n\n\
             graph network(n0, x) -> (n9) {{\n  {body}\n}}\n"
        )
    }

    #[test]
    fn what_tract_writes_is_read_as_tract_reads_it() {
        for body in [
            "n0 = external(shape = [1, 3, 96, 96]);",
            "n1 = variable<scalar>(label = \"n1\", shape = [32, 3, 3, 3]);",
            "n4 = [[[[0.0]]]];\n  n5 = max(n3, n4);",
            "n8 = conv(n5, n6, stride = [2, 2], border = \"constant\", padding = [(1, 1), (-1, 0)]);",
            "n9 = tract_core_rms_norm(n53, axis = 2, eps = 1e-5);\n  n10 = -3.5E+2;\n  n11 = -inf;",
            "n9 = matmul(a, b, transposeA = false, transposeB = true);",
            "n9 = concat([n48, n47], axis = -1);\n  n10 = n9;\n  n11 = (n9);\n  n12 = f();",
        ] {
            let text = graph(body);
            let document = plain(&text).unwrap_or_else(|| panic!("{body}"));
            assert_eq!(document, parse_document(&text).expect(body));
        }
    }

    #[test]
    fn anything_else_is_left_to_tract() {
        for body in [
            "n1 = a + b;",
            "n1 = -a;",
            "(a, b) = f(c);",
            "n1 = a[0];",
            "n1 = true_one;",
            "n1 = infinite;",
            "n1 = i\"a name\";",
            "n1 = 'quoted';",
            "n1 = \"a\\\"b\";",
            "n1 = f(a == b);",
            "n1 = 1 if a else 2;",
            "n1 = variable<?>(label = \"n1\");",
            "n1 = [for a in b yield a];",
            "n1 = 1",
            "n1 = f(a;",
        ] {
            assert_eq!(plain(&graph(body)), None, "{body}");
        }
        let text = graph("n1 = a + b;");
        assert_eq!(
            parse(&text).expect("NNEF"),
            parse_document(&text).expect("NNEF")
        );
        assert!(parse(&graph("n1 = f(a;")).is_err());
    }
}
