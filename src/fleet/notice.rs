//! What an owner says to a group of boxes, and its bytes: a frame with minisign's signature, then the signed body, which is a
//! line that names its purpose, a line of JSON, and the file of the prompt. `docs/fleet.md` describes each byte.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::key::{MAX_SIGNATURE, verify};
use super::{Canary, Group, KeyError, Refusal, SigningKey, TrustedKey, check_region};
use crate::prompt::Prompt;
use crate::store::{PromptFileError, StoreError, decode, encode, format};

/// The largest notice: one that is larger is refused before anything of it is read.
pub const MAX_BYTES: usize = 64 << 10;
/// Begins every notice.
const MAGIC: [u8; 8] = *b"\x89RLF\r\n\x1a\n";
/// The version of the frame and of the body.
const VERSION: u16 = 1;
/// Magic, version, length of the signature, length of the body.
const HEADER_BYTES: usize = 16;
/// Begins every body, so that a signature of anything else is none of a notice.
const PURPOSE: &[u8] = b"edge-rlp fleet notice 1\n";
/// The longest address of a bundle.
const MAX_URL_BYTES: usize = 2048;
/// The largest bundle.
const MAX_BUNDLE: u64 = 8 << 30;
/// The greatest generation.
const MAX_GENERATION: u64 = 999_999_999;

/// Why there is no notice to sign.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoticeError {
    /// A group is none.
    #[error(
        "{group:?} is no group: write names with / between them, as in \"shops/north\": letters, digits, '-', '_' and '.'"
    )]
    Group {
        /// As it was given, shortened.
        group: String,
    },
    /// A region is none.
    #[error(transparent)]
    Region(#[from] StoreError),
    /// A share of the boxes is none.
    #[error("{share} is no share of the boxes: write it as in 5% or 0.5%, above 0 and up to 100")]
    Canary {
        /// As it was given, shortened.
        share: String,
    },
    /// A bundle cannot be fetched by boxes.
    #[error("the bundle's address cannot be used: {fault}")]
    Bundle {
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The generation is none.
    #[error("a generation is from 1 to {MAX_GENERATION}, not {0}")]
    Generation(u64),
    /// It is too large to travel.
    #[error(
        "the notice would have {bytes} bytes, and {MAX_BYTES} is the most that boxes read: train the prompt with fewer labels, or without class means"
    )]
    TooLarge {
        /// How many it would have.
        bytes: usize,
    },
    /// The prompt cannot be written.
    #[error(transparent)]
    Prompt(#[from] PromptFileError),
    /// It cannot be signed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Use this prompt, if it is at least as good here.
    Publish,
    /// Use this earlier prompt again.
    Rollback,
    /// Use what the box had before the fleet.
    Withdraw,
}

/// A model that boxes can fetch, where they have it not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Where it lies: `http://` or `https://`.
    pub url: String,
    /// Its SHA-256, 64 hexadecimal digits.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

impl Bundle {
    fn fault(&self) -> Option<&'static str> {
        let web = self.url.starts_with("http://") || self.url.starts_with("https://");
        let fine = |c: char| c.is_ascii_graphic();
        if self.url.len() > MAX_URL_BYTES || !web || !self.url.chars().all(fine) {
            Some("it is no address that begins with http:// or https://, of 2048 letters at most")
        } else if self.sha256.len() != 64 || !self.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
            Some("its SHA-256 is not 64 hexadecimal digits")
        } else if !(1..=MAX_BUNDLE).contains(&self.bytes) {
            Some("its size is that of no bundle")
        } else {
            None
        }
    }
}

/// What an owner says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Notice {
    /// What is to be done.
    pub kind: Kind,
    /// The boxes that it is for.
    pub group: Group,
    /// What they look at: a box knows which of its prompts that is.
    pub region: String,
    /// Its number: each is greater than the one before, that of a rollback, too.
    pub generation: u64,
    /// Seconds since 1970.
    pub created_unix: u64,
    /// The share of the boxes that it is for.
    pub canary: Canary,
    /// The generation whose prompt a rollback brings back.
    pub restores: Option<u64>,
    /// Where the prompt's model lies.
    pub bundle: Option<Bundle>,
    /// The prompt; none where one is withdrawn.
    pub prompt: Option<Prompt>,
}

/// The second line of the body.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    kind: Kind,
    group: Group,
    region: String,
    generation: u64,
    created_unix: u64,
    canary_basis_points: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    restores: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<Bundle>,
    prompt_bytes: usize,
}

/// A notice that a trusted key has signed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Signed {
    /// What it says.
    pub notice: Notice,
    /// BLAKE3 of the body, in hexadecimal.
    pub digest: String,
    /// The number of the key.
    pub key: String,
    /// The comment that is signed with it.
    pub comment: String,
}

impl Notice {
    /// One that was made just now, for all boxes of a group.
    ///
    /// # Errors
    /// If the region or the generation is none.
    pub fn new(
        kind: Kind,
        group: Group,
        region: &str,
        generation: u64,
        prompt: Option<Prompt>,
    ) -> Result<Notice, NoticeError> {
        check_region(region)?;
        if !(1..=MAX_GENERATION).contains(&generation) {
            return Err(NoticeError::Generation(generation));
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Notice {
            kind,
            group,
            region: region.into(),
            generation,
            created_unix: since.as_ref().map_or(0, Duration::as_secs),
            canary: Canary::ALL,
            restores: None,
            bundle: None,
            prompt,
        })
    }

    /// BLAKE3 of what the prompt was trained to, in hexadecimal; none without one.
    pub fn prompt_digest(&self) -> Option<String> {
        let digest = format::digest(self.prompt.as_ref()?).ok()?;
        Some(digest.to_hex().to_string())
    }

    /// In a few words, for people: what stands in the signed comment.
    pub fn in_words(&self) -> String {
        let kind = match self.kind {
            Kind::Publish => "publish",
            Kind::Rollback => "rollback",
            Kind::Withdraw => "withdraw",
        };
        format!(
            "edge-rlp fleet {kind} {}:{} generation {}",
            self.group, self.region, self.generation
        )
    }

    /// Its bytes, signed by `key`.
    ///
    /// # Errors
    /// If it is too large, or nothing that a box would read.
    pub fn sign(&self, key: &SigningKey) -> Result<Vec<u8>, NoticeError> {
        if let Some(fault) = self.bundle.as_ref().and_then(Bundle::fault) {
            return Err(NoticeError::Bundle { fault });
        }
        let body = self.body()?;
        let signature = key.sign(&body, &self.in_words())?;
        let bytes = frame(signature.as_bytes(), &body);
        if bytes.len() > MAX_BYTES {
            return Err(NoticeError::TooLarge { bytes: bytes.len() });
        }
        Ok(bytes)
    }

    fn body(&self) -> Result<Vec<u8>, NoticeError> {
        let prompt = self.prompt.as_ref().map(encode).transpose()?;
        let prompt = prompt.unwrap_or_default();
        let of = |prompt: &Prompt| blake3::Hash::from(prompt.model_fingerprint).to_hex();
        let header = Header {
            kind: self.kind,
            group: self.group.clone(),
            region: self.region.clone(),
            generation: self.generation,
            created_unix: self.created_unix,
            canary_basis_points: self.canary.basis_points(),
            restores: self.restores,
            model: self.prompt.as_ref().map(|prompt| of(prompt).to_string()),
            model_name: self.prompt.as_ref().map(|prompt| prompt.model_name.clone()),
            bundle: self.bundle.clone(),
            prompt_bytes: prompt.len(),
        };
        let mut body = PURPOSE.to_vec();
        // Strings and numbers alone: nothing of it can fail.
        body.extend(serde_json::to_vec(&header).unwrap_or_default());
        body.push(b'\n');
        body.extend(prompt);
        Ok(body)
    }

    fn parse(body: &[u8]) -> Result<Notice, Refusal> {
        let malformed = |fault: String| Refusal::Malformed { fault };
        let rest = body.strip_prefix(PURPOSE);
        let rest = rest.ok_or_else(|| malformed("its body does not begin as one does".into()))?;
        let end = rest.iter().position(|&byte| byte == b'\n');
        let end = end.ok_or_else(|| malformed("its header has no end".into()))?;
        let header: Header = serde_json::from_slice(&rest[..end])
            .map_err(|error| malformed(format!("its header: {error}")))?;
        let bytes = &rest[end + 1..];
        if bytes.len() != header.prompt_bytes {
            return Err(malformed(format!(
                "its prompt has {} bytes, and {} are told",
                bytes.len(),
                header.prompt_bytes
            )));
        }
        check_region(&header.region).map_err(|error| malformed(error.to_string()))?;
        if !(1..=MAX_GENERATION).contains(&header.generation) {
            return Err(malformed("its generation is none".into()));
        }
        let canary = Canary::of_basis_points(header.canary_basis_points);
        let canary = canary.ok_or_else(|| malformed("its share of the boxes is none".into()))?;
        if let Some(fault) = header.bundle.as_ref().and_then(Bundle::fault) {
            return Err(malformed(fault.into()));
        }
        let prompt = match header.kind {
            Kind::Withdraw if !bytes.is_empty() || header.model.is_some() => {
                return Err(malformed("it withdraws a prompt and brings one".into()));
            }
            Kind::Withdraw => None,
            Kind::Publish | Kind::Rollback => {
                let prompt = decode(bytes, "the notice")?;
                let model = blake3::Hash::from(prompt.model_fingerprint).to_hex();
                if header.model.as_deref() != Some(model.as_str()) {
                    return Err(malformed(
                        "its prompt is for another model than it says".into(),
                    ));
                }
                Some(prompt)
            }
        };
        if (header.kind == Kind::Rollback) != header.restores.is_some() {
            return Err(malformed(
                "a rollback names what it brings back, and nothing else does".into(),
            ));
        }
        Ok(Notice {
            kind: header.kind,
            group: header.group,
            region: header.region,
            generation: header.generation,
            created_unix: header.created_unix,
            canary,
            restores: header.restores,
            bundle: header.bundle,
            prompt,
        })
    }
}

fn frame(signature: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + signature.len() + body.len());
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((signature.len() as u16).to_le_bytes());
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(signature);
    bytes.extend(body);
    bytes
}

/// The signature and the body of a notice.
fn parts(bytes: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if bytes.len() > MAX_BYTES {
        return Err(Refusal::TooLarge {
            bytes: bytes.len(),
            most: MAX_BYTES,
        });
    }
    let malformed = |fault: &str| Refusal::Malformed {
        fault: fault.into(),
    };
    // What a person would retain who has not read how it is done.
    if bytes.starts_with(&format::MAGIC) {
        return Err(Refusal::Unsigned);
    }
    let rest = bytes.strip_prefix(&MAGIC);
    let rest = rest.ok_or_else(|| malformed("it does not begin as one does"))?;
    let cut = || malformed("it is cut short");
    let Some((&[v0, v1, s0, s1, b0, b1, b2, b3], rest)) = rest.split_first_chunk::<8>() else {
        return Err(cut());
    };
    let version = u16::from_le_bytes([v0, v1]);
    if version != VERSION {
        return Err(match version {
            0 => malformed("there is no version 0"),
            version => Refusal::Newer {
                version,
                supported: VERSION,
            },
        });
    }
    let signature = usize::from(u16::from_le_bytes([s0, s1]));
    let body = u32::from_le_bytes([b0, b1, b2, b3]) as usize;
    if signature > MAX_SIGNATURE {
        return Err(malformed("its signature is too long"));
    }
    if rest.len() != signature.saturating_add(body) {
        return Err(cut());
    }
    Ok(rest.split_at(signature))
}

/// Reads a notice that one of `trusted` has signed. Nothing of the body is looked at before that is certain.
///
/// # Errors
/// If it is too large, no notice, or signed by none of them.
pub fn read(bytes: &[u8], trusted: &[TrustedKey]) -> Result<Signed, Refusal> {
    let (signature, body) = parts(bytes)?;
    if signature.is_empty() {
        return Err(Refusal::Unsigned);
    }
    let signature = std::str::from_utf8(signature).map_err(|_| Refusal::Malformed {
        fault: "its signature is no text".into(),
    })?;
    let (key, comment) = verify(signature, body, trusted)?;
    Ok(Signed {
        notice: Notice::parse(body)?,
        digest: blake3::hash(body).to_hex().to_string(),
        key: key.id(),
        comment,
    })
}

/// What a fuzz target does: the whole of a notice without its signature, which no fuzzer can make.
#[doc(hidden)]
pub fn read_unsigned(bytes: &[u8]) -> Result<Notice, Refusal> {
    let (signature, body) = parts(bytes)?;
    if let Ok(signature) = std::str::from_utf8(signature) {
        // Whether it is forged is of no interest; that it is looked at is.
        let _ = verify(signature, body, &[]);
    }
    Notice::parse(body)
}

#[cfg(test)]
mod tests;
