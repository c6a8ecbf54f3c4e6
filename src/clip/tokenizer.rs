//! Text to token ids, as CLIP's byte-level BPE has it: a `tokenizer.json` of Hugging Face, or CLIP's own merges.
//! Special tokens and the context length are the caller's: none is added, and nothing is cut.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Map, Value, json};
use tokenizers::models::bpe::BPE;
use tokenizers::{
    DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, TokenizerImpl,
};

/// The 48,894 merges of CLIP's vocabulary, best first, one pair a line (see `models/clip-merges.md`).
pub const CLIP_MERGES: &str = include_str!("../../models/clip-merges.txt");
/// Tokens in CLIP's full vocabulary: 256 bytes, the same at the end of a word, the merges, start and end of text.
pub const CLIP_VOCABULARY: usize = 49_408;

/// What the start and end tokens are called: by OpenAI and Hugging Face, and in open_clip.
const START_TOKENS: [&str; 2] = ["<|startoftext|>", "<start_of_text>"];
const END_TOKENS: [&str; 2] = ["<|endoftext|>", "<end_of_text>"];
/// Where CLIP splits text into words, before merging (OpenAI's `simple_tokenizer.py`).
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Why a tokenizer cannot be read, or a text not be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file is not a tokenizer.json; this says why.
    #[error(
        "this is not a tokenizer.json that can be read ({0}): take the file that came with the model"
    )]
    Unreadable(String),
    /// It lacks a start or an end token; these were looked for.
    #[error(
        "the tokenizer has none of the tokens {0}, nor puts one of its own after a text: it is not a CLIP tokenizer"
    )]
    SpecialToken(String),
    /// The size of the vocabulary and the merges do not fit.
    #[error("a vocabulary of {asked} tokens does not fit the merges: {from} to {to} are possible")]
    Vocabulary {
        /// Tokens that were asked for.
        asked: usize,
        /// The fewest tokens there can be.
        from: usize,
        /// The most tokens there can be.
        to: usize,
    },
    /// A line of the merges is not a pair.
    #[error(
        "line {line} of the merges is {text:?}: it must be two parts with one space between them"
    )]
    Merge {
        /// The line, counted from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// Two lines of the merges make the same token.
    #[error("line {line} of the merges makes a token that an earlier line has made: remove it")]
    RepeatedMerge {
        /// The line, counted from 1.
        line: usize,
    },
    /// A text cannot be tokenised; this says why.
    #[error("the text cannot be tokenised: {0}")]
    Encode(String),
}

/// Reads a file as BPE first, in one pass: the library buffers a model of unknown kind twice, which takes a third of a
/// start. A file that is not BPE is read the library's own way.
fn read(bytes: &[u8]) -> tokenizers::Result<tokenizers::Tokenizer> {
    type Bpe = TokenizerImpl<
        BPE,
        NormalizerWrapper,
        PreTokenizerWrapper,
        PostProcessorWrapper,
        DecoderWrapper,
    >;
    match Bpe::from_bytes(bytes) {
        Ok(bpe) => Ok(bpe.into()),
        Err(_) => tokenizers::Tokenizer::from_bytes(bytes),
    }
}

/// A byte-level BPE with the ids of its start and end tokens.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    bpe: tokenizers::Tokenizer,
    start: Option<u32>,
    end: u32,
}

impl Tokenizer {
    /// Reads the bytes of a Hugging Face `tokenizer.json`. Truncation and padding that it asks for are left out.
    ///
    /// # Errors
    /// Bytes that are not such a file, and a vocabulary without CLIP's start and end tokens.
    pub fn from_json(bytes: &[u8]) -> Result<Tokenizer, TokenizerError> {
        // Inconsistent merges make the library index out of its buffer.
        let mut bpe = catch_unwind(|| read(bytes))
            .map_err(|_| TokenizerError::Unreadable("its parts contradict each other".into()))?
            .map_err(|e| TokenizerError::Unreadable(e.to_string()))?;
        bpe.with_padding(None);
        bpe.with_truncation(None)
            .map_err(|e| TokenizerError::Unreadable(e.to_string()))?;
        let find = |names: [&str; 2]| names.iter().find_map(|name| bpe.token_to_id(name));
        let (start, end) = match (find(START_TOKENS), find(END_TOKENS)) {
            (Some(start), Some(end)) => (Some(start), end),
            _ => around(&bpe)?,
        };
        Ok(Tokenizer { bpe, start, end })
    }

    /// CLIP's tokenizer with the first `vocabulary - 514` of `merges` (one pair of parts a line): [`CLIP_MERGES`] and
    /// [`CLIP_VOCABULARY`] give the one of every OpenAI and open_clip checkpoint, fewer give a truncated one.
    ///
    /// # Errors
    /// More tokens than there are merges for, fewer than the bytes need, or a line that is not a new pair.
    pub fn clip(merges: &str, vocabulary: usize) -> Result<Tokenizer, TokenizerError> {
        let bytes = byte_alphabet();
        let whole = 2 * bytes.len() + 2;
        let lines = merges.lines().count();
        let count = vocabulary
            .checked_sub(whole)
            .filter(|&count| count <= lines);
        let count = count.ok_or(TokenizerError::Vocabulary {
            asked: vocabulary,
            from: whole,
            to: whole + lines,
        })?;

        let mut ids = Map::new();
        for suffix in ["", "</w>"] {
            for byte in &bytes {
                ids.insert(format!("{byte}{suffix}"), json!(ids.len()));
            }
        }
        let mut pairs = Vec::with_capacity(count);
        for (index, text) in merges.lines().take(count).enumerate() {
            let line = index + 1;
            let known = |part: &&str| ids.contains_key(*part);
            let (a, b) = text
                .split_once(' ')
                .filter(|(a, b)| known(a) && known(b))
                .ok_or_else(|| TokenizerError::Merge {
                    line,
                    text: text.into(),
                })?;
            if ids.insert(format!("{a}{b}"), json!(ids.len())).is_some() {
                return Err(TokenizerError::RepeatedMerge { line });
            }
            pairs.push([a, b]);
        }
        let (start, end) = (ids.len(), ids.len() + 1);
        ids.insert(START_TOKENS[0].into(), json!(start));
        ids.insert(END_TOKENS[0].into(), json!(end));
        let names = [START_TOKENS[0], END_TOKENS[0]];
        Tokenizer::from_json(description(ids, &pairs, names).to_string().as_bytes())
    }

    /// CLIP's tokenizer with the ids of a `vocab.json` and the pairs of a `merges.txt`, the older two files of Hugging
    /// Face.
    ///
    /// # Errors
    /// A vocabulary without start and end tokens, a line that is not a pair, parts that contradict each other.
    pub fn from_vocabulary(
        ids: Map<String, Value>,
        merges: &str,
    ) -> Result<Tokenizer, TokenizerError> {
        let find = |names: [&'static str; 2]| {
            let known = names.into_iter().find(|name| ids.contains_key(*name));
            known.ok_or_else(|| TokenizerError::SpecialToken(names.join(" or ")))
        };
        let names = [find(START_TOKENS)?, find(END_TOKENS)?];
        let lines = merges.lines().enumerate();
        let lines = lines.filter(|(line, text)| {
            !(text.is_empty() || *line == 0 && text.starts_with("#version"))
        });
        let mut pairs = Vec::new();
        for (index, text) in lines {
            let pair = text.split_once(' ').filter(|(_, b)| !b.contains(' '));
            let (a, b) = pair.ok_or_else(|| TokenizerError::Merge {
                line: index + 1,
                text: text.into(),
            })?;
            pairs.push([a, b]);
        }
        Tokenizer::from_json(description(ids, &pairs, names).to_string().as_bytes())
    }

    /// The ids of `text`, without start or end token, however many: cutting to a context length is the caller's.
    ///
    /// # Errors
    /// Only for tokenizers without an id for every byte.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = catch_unwind(AssertUnwindSafe(|| self.bpe.encode_fast(text, false)))
            .map_err(|_| TokenizerError::Encode("the tokenizer contradicts itself".into()))?
            .map_err(|e| TokenizerError::Encode(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// `ids` between the start token, where there is one, and the end token.
    pub fn sequence(&self, ids: impl IntoIterator<Item = u32>) -> Vec<u32> {
        self.start
            .into_iter()
            .chain(ids)
            .chain([self.end])
            .collect()
    }

    /// The id of the start-of-text token; nothing where texts start with their first word, as SigLIP's do.
    pub fn start_token(&self) -> Option<u32> {
        self.start
    }

    /// The id of the end-of-text token, at whose position CLIP's text tower pools.
    pub fn end_token(&self) -> u32 {
        self.end
    }

    /// The id of a token by its text.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.bpe.token_to_id(token)
    }

    /// How many tokens there are, special ones included.
    pub fn vocabulary_size(&self) -> usize {
        self.bpe.get_vocab_size(true)
    }

    /// The tokenizer as a `tokenizer.json`, which [`Tokenizer::from_json`] and Hugging Face read; equal tokenizers
    /// give equal bytes.
    ///
    /// # Errors
    /// None that a tokenizer made here is known to give.
    pub fn to_json_bytes(&self) -> Result<Vec<u8>, TokenizerError> {
        let text = self.bpe.to_string(false);
        text.map(String::into_bytes)
            .map_err(|e| TokenizerError::Unreadable(e.to_string()))
    }
}

/// The ids that a tokeniser puts before (none or one) and after (one) every text, for one without CLIP's names for them.
fn around(bpe: &tokenizers::Tokenizer) -> Result<(Option<u32>, u32), TokenizerError> {
    let encode = |special| {
        let encoding = catch_unwind(AssertUnwindSafe(|| bpe.encode_fast("a", special)));
        let ids = encoding.ok()?.ok()?.get_ids().to_vec();
        Some(ids)
    };
    let ids = encode(false).zip(encode(true));
    let found = ids.and_then(|(plain, whole)| {
        let at = whole
            .windows(plain.len().max(1))
            .position(|part| part == plain)?;
        match (&whole[..at], &whole[at + plain.len()..]) {
            ([], &[end]) => Some((None, end)),
            (&[start], &[end]) => Some((Some(start), end)),
            _ => None,
        }
    });
    // What is put around a text by its id alone, without a place in the vocabulary, is a file that contradicts itself.
    let known = |id: u32| bpe.id_to_token(id).is_some();
    let found = found.filter(|(start, end)| known(*end) && start.is_none_or(known));
    let names = [START_TOKENS.join(" or "), END_TOKENS.join(" or ")].join(", ");
    found.ok_or(TokenizerError::SpecialToken(names))
}

/// The character that stands for each byte, in the order of CLIP's vocabulary: printable ones for themselves, the
/// others as the characters from U+0100 on (`bytes_to_unicode` of GPT-2).
fn byte_alphabet() -> Vec<char> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let themselves = (0..=255u8).filter(|&b| printable(b)).map(char::from);
    let others = (0..=255u8).filter(|&b| !printable(b)).count() as u32;
    let substitutes = (0x100..0x100 + others).filter_map(char::from_u32);
    themselves.chain(substitutes).collect()
}

/// The `tokenizer.json` of a CLIP with this vocabulary, as `CLIPTokenizer` of transformers 5 builds it.
fn description(ids: Map<String, Value>, merges: &[[&str; 2]], [start, end]: [&str; 2]) -> Value {
    let special = |content: &str| {
        json!({"id": ids[content], "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [special(start), special(end)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
        "post_processor": {"type": "RobertaProcessing", "sep": [end, ids[end]], "cls": [start, ids[start]],
            "trim_offsets": false, "add_prefix_space": false},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": end, "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": ids, "merges": merges},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[text, full ids, truncated ids]` for every string of `tests/fixtures/tokenizer/make.py`.
    fn reference() -> Vec<(String, Vec<u32>, Vec<u32>)> {
        let text = include_str!("../../tests/fixtures/tokenizer/expected.json");
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn ids_are_those_of_hugging_face() {
        let full = Tokenizer::clip(CLIP_MERGES, CLIP_VOCABULARY).unwrap();
        let truncated = Tokenizer::clip(CLIP_MERGES, 2048).unwrap();
        let reference = reference();
        assert!(reference.len() >= 500);
        for (text, full_ids, truncated_ids) in reference {
            assert_eq!(full.encode(&text).unwrap(), full_ids, "{text:?}");
            assert_eq!(truncated.encode(&text).unwrap(), truncated_ids, "{text:?}");
        }
    }

    #[test]
    fn special_tokens_are_the_last_two_and_the_size_is_as_asked() {
        for vocabulary in [514, 515, 2048, CLIP_VOCABULARY] {
            let clip = Tokenizer::clip(CLIP_MERGES, vocabulary).unwrap();
            assert_eq!(clip.vocabulary_size(), vocabulary);
            assert_eq!(clip.start_token(), Some(vocabulary as u32 - 2));
            assert_eq!(clip.end_token() as usize, vocabulary - 1);
        }
    }

    #[test]
    fn a_unigram_tokenizer_without_a_start_token_is_read() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/import/siglip");
        let read = |name: &str| std::fs::read(format!("{folder}/{name}")).unwrap();
        let siglip = Tokenizer::from_json(&read("tokenizer.json")).unwrap();
        assert_eq!((siglip.start_token(), siglip.end_token()), (None, 529));
        assert_eq!(siglip.sequence([5, 6]), [5, 6, 529]);
        let known: Vec<(String, Vec<u32>, Vec<u32>)> =
            serde_json::from_slice(&read("texts.json")).unwrap();
        for (text, ids, _) in known {
            assert_eq!(siglip.encode(&text).unwrap(), ids, "{text}");
        }
    }

    #[test]
    fn json_round_trip_keeps_ids_and_bytes() {
        let clip = Tokenizer::clip(CLIP_MERGES, 2048).unwrap();
        let json = clip.to_json_bytes().unwrap();
        let again = Tokenizer::from_json(&json).unwrap();
        assert_eq!(again.to_json_bytes().unwrap(), json);
        for (text, _, ids) in reference() {
            assert_eq!(again.encode(&text).unwrap(), ids);
        }
    }

    #[test]
    fn truncation_and_padding_of_the_file_are_left_out() {
        let clip = Tokenizer::clip(CLIP_MERGES, 2048).unwrap();
        let mut json: Value = serde_json::from_slice(&clip.to_json_bytes().unwrap()).unwrap();
        json["truncation"] =
            json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
        json["padding"] = json!({"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "!"});
        let padded = Tokenizer::from_json(json.to_string().as_bytes()).unwrap();
        let text = "a photo of a red circle";
        assert_eq!(padded.encode(text).unwrap(), clip.encode(text).unwrap());
    }

    #[test]
    fn over_long_text_is_all_there() {
        let clip = Tokenizer::clip(CLIP_MERGES, CLIP_VOCABULARY).unwrap();
        assert_eq!(clip.encode(&"dog ".repeat(10_000)).unwrap().len(), 10_000);
        assert!(!clip.encode(&"x".repeat(100_000)).unwrap().is_empty());
    }

    #[test]
    fn bad_files_are_errors() {
        let clip = Tokenizer::clip(CLIP_MERGES, 600).unwrap();
        let json: Value = serde_json::from_slice(&clip.to_json_bytes().unwrap()).unwrap();
        let read = |json: &Value| Tokenizer::from_json(json.to_string().as_bytes());

        for bytes in [&b""[..], b"{}", b"\xff\xfe", b"[1, 2]"] {
            let error = Tokenizer::from_json(bytes).unwrap_err();
            assert!(matches!(error, TokenizerError::Unreadable(_)), "{error}");
        }
        let mut without_end = json.clone();
        without_end["added_tokens"] = json!([]);
        without_end["model"]["vocab"]
            .as_object_mut()
            .unwrap()
            .remove("<|endoftext|>");
        let error = read(&without_end).unwrap_err();
        assert!(error.to_string().contains("<|endoftext|>"), "{error}");

        let mut contradiction = json;
        contradiction["model"]["merges"] = json!([["<|startoftext|>", "<|endoftext|>"]]);
        let error = read(&contradiction).unwrap_err();
        assert!(matches!(error, TokenizerError::Unreadable(_)), "{error}");
    }

    #[test]
    fn bad_merges_are_errors_that_name_the_line() {
        let error =
            |merges, vocabulary| Tokenizer::clip(merges, vocabulary).unwrap_err().to_string();
        assert!(error("i n\nt h", 513).contains("514 to 516"));
        assert!(error("i n\nt h", 517).contains("514 to 516"));
        assert!(error("i n\nth", 516).contains("line 2"));
        assert!(error("i n\ni n", 516).contains("line 2"));
        assert!(error("i n\nzz y", 516).contains("line 2"));
    }
}
