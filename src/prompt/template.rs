//! The sentence a class name stands in, and where its tokens lie; the tokeniser comes in as a function.

use super::labels::Label;
use std::fmt;

/// Where the class name goes.
const PLACE: &str = "{}";
/// The longest template, in bytes; towers read far fewer tokens than that.
const MAX_BYTES: usize = 1000;

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TemplateError {
    /// It has no place for the label, or several.
    #[error(
        "the template {template:?} has {found} places for the label: write {{}} exactly once, as in \"a photo of a {{}}.\""
    )]
    Places {
        /// The template as it was given.
        template: String,
        /// How many it has.
        found: usize,
    },
    /// It begins with the label, so that there is nothing to tune.
    #[error(
        "the template {template:?} has no word before {{}}: those words are what is tuned, so write at least one, as in \"a photo of a {{}}.\""
    )]
    NoContext {
        /// The template as it was given.
        template: String,
    },
    /// It has a control character.
    #[error("the template {template:?} has a control character: use plain text")]
    ControlCharacter {
        /// The template as it was given.
        template: String,
    },
    /// It is too long to be a template.
    #[error("the template is {bytes} bytes long: keep it within {MAX_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Words and label make other tokens together than apart.
    #[error(
        "the words before {{}} in the template {template:?} run together with the label {label:?}: put a space between them"
    )]
    RunsTogether {
        /// The template as it was given.
        template: String,
        /// The label's name.
        label: String,
    },
    /// The words of a label are nothing to the tokenizer.
    #[error(
        "the label {label:?} reads as no token at all: give it words, as in \"{label} = some words\""
    )]
    NoTokens {
        /// The label's name.
        label: String,
    },
    /// A label in its template is longer than the model reads.
    #[error(
        "the label {label:?} in the template {template:?} is {over} tokens too long for the model, which reads {context_length}: shorten its words or the template"
    )]
    TooManyTokens {
        /// The label's name.
        label: String,
        /// The template as it was given.
        template: String,
        /// Tokens too many.
        over: usize,
        /// Tokens that the model reads, with start and end.
        context_length: usize,
    },
    /// A text holds the end token, behind which the model reads nothing.
    #[error("{text:?} holds the token that ends a text for the model: leave it out")]
    EndToken {
        /// The text as the model would read it.
        text: String,
    },
    /// A text cannot be tokenised.
    #[error("the tokeniser cannot read {text:?}: {reason}")]
    Tokenizer {
        /// The text as the model would read it.
        text: String,
        /// What the tokenizer says.
        reason: String,
    },
}

/// A sentence with one place for the class name. The words before the place are the context that is tuned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    before: String,
    after: String,
}

impl Default for Template {
    /// CLIP's own template, `a photo of a {}.`
    fn default() -> Template {
        Template {
            before: "a photo of a ".into(),
            after: ".".into(),
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}{PLACE}{}", self.before, self.after)
    }
}

/// Token ids of every class in a template, cut where the tuned context ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenLayout {
    /// The ids of the words before the class name, the same for every class: n of them, without the start token.
    pub context: Vec<u32>,
    /// For each class the ids after the context: its name, the words after it, and the end token.
    pub suffixes: Vec<Vec<u32>>,
}

impl Template {
    /// Reads a template such as `a photo of a {}.`
    ///
    /// # Errors
    /// If it has not exactly one place for the label, no word before it, a control character, or more than 1000 bytes.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        let template = || text.to_owned();
        if text.len() > MAX_BYTES {
            return Err(TemplateError::TooLong { bytes: text.len() });
        }
        if text.chars().any(char::is_control) {
            return Err(TemplateError::ControlCharacter {
                template: template(),
            });
        }
        let found = text.matches(PLACE).count();
        let Some((before, after)) = text.split_once(PLACE).filter(|_| found == 1) else {
            return Err(TemplateError::Places {
                template: template(),
                found,
            });
        };
        if !before.contains(char::is_alphanumeric) {
            return Err(TemplateError::NoContext {
                template: template(),
            });
        }
        Ok(Template {
            before: before.into(),
            after: after.into(),
        })
    }

    /// The sentence for one class.
    pub fn text(&self, label: &Label) -> String {
        format!("{}{}{}", self.before, label.words, self.after)
    }

    /// Lays out the tokens of every label. `encode` gives the ids of a text without start and end tokens;
    /// `context_length` is how many tokens the text tower reads, start and end included.
    ///
    /// # Errors
    /// If `encode` fails or gives `end_token`, or a label has no tokens, runs together with the words before it, or makes
    /// the sentence too long.
    pub fn layout<E: fmt::Display>(
        &self,
        encode: impl Fn(&str) -> Result<Vec<u32>, E>,
        end_token: u32,
        labels: &[Label],
        context_length: usize,
    ) -> Result<TokenLayout, TemplateError> {
        let encode = |text: &str| {
            let text_here = || text.to_owned();
            let ids = encode(text).map_err(|error| TemplateError::Tokenizer {
                text: text_here(),
                reason: error.to_string(),
            })?;
            if ids.contains(&end_token) {
                Err(TemplateError::EndToken { text: text_here() })
            } else {
                Ok(ids)
            }
        };
        let context = encode(self.before.trim())?;
        if context.is_empty() {
            return Err(TemplateError::NoContext {
                template: self.to_string(),
            });
        }
        let after = encode(self.after.trim())?;
        let suffix = |label: &Label| {
            let name = || label.name.clone();
            let ids = encode(&self.text(label))?;
            let Some(suffix) = ids.strip_prefix(context.as_slice()) else {
                return Err(TemplateError::RunsTogether {
                    template: self.to_string(),
                    label: name(),
                });
            };
            if suffix.len() <= after.len() && encode(&label.words)?.is_empty() {
                return Err(TemplateError::NoTokens { label: name() });
            }
            let tokens = ids.len() + 2;
            if tokens > context_length {
                return Err(TemplateError::TooManyTokens {
                    label: name(),
                    template: self.to_string(),
                    over: tokens - context_length,
                    context_length,
                });
            }
            Ok([suffix, &[end_token]].concat())
        };
        let suffixes = labels.iter().map(suffix).collect::<Result<_, _>>()?;
        Ok(TokenLayout { context, suffixes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::tokenizer::{CLIP_MERGES, Tokenizer, TokenizerError};
    use std::sync::LazyLock;

    const END: u32 = 2047;

    /// CLIP's own tokeniser, with few merges so that long words are many tokens.
    fn encode(text: &str) -> Result<Vec<u32>, TokenizerError> {
        static CLIP: LazyLock<Tokenizer> =
            LazyLock::new(|| Tokenizer::clip(CLIP_MERGES, 2048).unwrap());
        CLIP.encode(text)
    }

    fn labels(names: &[&str]) -> Vec<Label> {
        names
            .iter()
            .map(|name| Label::new(name, None).unwrap())
            .collect()
    }

    #[test]
    fn a_template_needs_one_place_and_a_word_before_it() {
        for (text, part) in [
            ("a photo", "0 places"),
            ("a {} and a {}", "2 places"),
            ("{} in the fog", "no word before"),
            ("... {}", "no word before"),
            ("a\tphoto of {}", "control character"),
        ] {
            let message = Template::parse(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text:?}: {message}");
        }
        assert!(Template::parse(&format!("{} {{}}", "a".repeat(2000))).is_err());
        assert_eq!(Template::parse("a photo of a {}."), Ok(Template::default()));
        assert_eq!(
            Template::parse("das Bild: {}").unwrap().to_string(),
            "das Bild: {}"
        );
    }

    #[test]
    fn the_parts_of_a_layout_make_the_whole_sentence() {
        let classes = labels(&["cat", "fire_extinguisher", "3 bolts"]);
        for text in ["a photo of a {}.", "bild von {} im nebel", "photograph:{}"] {
            let template = Template::parse(text).unwrap();
            let layout = template.layout(encode, END, &classes, 77).unwrap();
            for (label, suffix) in classes.iter().zip(&layout.suffixes) {
                let whole = encode(&template.text(label)).unwrap();
                assert_eq!(
                    [layout.context.clone(), suffix.clone()].concat(),
                    [whole, vec![END]].concat()
                );
            }
        }
    }

    #[test]
    fn the_context_does_not_depend_on_the_class() {
        let template = Template::default();
        let one = template.layout(encode, END, &labels(&["cat"]), 77).unwrap();
        let other = template
            .layout(encode, END, &labels(&["zebra crossing"]), 77)
            .unwrap();
        assert_eq!(one.context, other.context);
        let glued = Template::parse("a super{}").unwrap();
        let message = glued
            .layout(encode, END, &labels(&["cat"]), 77)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("\"cat\"") && message.contains("space"),
            "{message}"
        );
    }

    #[test]
    fn a_label_too_long_for_the_model_is_named_with_its_excess() {
        let classes = labels(&["cat", "extraordinarily long"]);
        let needed = 2 + encode("a photo of a extraordinarily long.").unwrap().len();
        assert!(
            Template::default()
                .layout(encode, END, &classes, needed)
                .is_ok()
        );
        let error = Template::default()
            .layout(encode, END, &classes, needed - 3)
            .unwrap_err();
        assert!(
            matches!(&error, TemplateError::TooManyTokens { label, over: 3, .. } if label == "extraordinarily long"),
            "{error}"
        );
    }

    #[test]
    fn labels_and_tokenisers_that_yield_no_text_are_reported() {
        let deaf = |text: &str| encode(&text.replace("cat", ""));
        let error = Template::default()
            .layout(deaf, END, &labels(&["cat"]), 77)
            .unwrap_err();
        assert_eq!(
            error,
            TemplateError::NoTokens {
                label: "cat".into()
            }
        );
        let ending = Template::default().layout(encode, END, &labels(&["a<|endoftext|>b"]), 77);
        assert!(
            matches!(ending, Err(TemplateError::EndToken { .. })),
            "{ending:?}"
        );
        let broken = |_: &str| Err("the table is empty");
        let error = Template::default()
            .layout(broken, END, &labels(&["cat"]), 77)
            .unwrap_err();
        assert!(error.to_string().contains("the table is empty"));
    }
}
