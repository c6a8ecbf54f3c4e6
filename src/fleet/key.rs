//! The keys of a fleet, in minisign's format: the programs `minisign` and `rsign` make, read and use the same files.

use std::fmt;
use std::io::Cursor;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minisign::{KeyPair, PublicKey, SecretKey, SecretKeyBox, SignatureBox};

use super::Refusal;

/// Bytes of a signature's line: algorithm, key's number, signature.
const SIGNATURE_BYTES: usize = 2 + 8 + 64;
/// Bytes of the line that covers the trusted comment.
const GLOBAL_BYTES: usize = 64;
/// The largest signature that is read, a text of four lines.
pub(super) const MAX_SIGNATURE: usize = 1024;
/// The longest file of a key.
const MAX_KEY: usize = 4096;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A public key is none.
    #[error(
        "{text:?} is no public key: one is 56 letters and digits that begin with RW, as `minisign` and `fleet keygen` print it"
    )]
    Public {
        /// As it was given, shortened.
        text: String,
    },
    /// A file of a secret key is none.
    #[error("it is no secret key of minisign: {reason}")]
    Secret {
        /// What is wrong with it.
        reason: String,
    },
    /// The key is protected, and nothing opens it.
    #[error("the secret key is protected by a password, and none is given")]
    Locked,
    /// The password is another one.
    #[error("that is not the password of the secret key")]
    Password,
    /// The system gives no random numbers, or signing failed otherwise.
    #[error("{0}")]
    Sign(String),
}

/// How a secret key is protected in its file.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// By this one.
    Given(String),
    /// Not at all: whoever reads the file can sign.
    None,
}

/// A key whose signatures a box takes. Shown, it is the line that `minisign` prints.
#[derive(Clone)]
pub struct TrustedKey(PublicKey);

impl TrustedKey {
    /// By which signatures name it: 16 hexadecimal digits, as in the comment of minisign's file.
    pub fn id(&self) -> String {
        id(self.0.keynum())
    }

    /// The file `minisign.pub`: a comment and the key.
    pub fn to_file(&self) -> String {
        format!(
            "untrusted comment: minisign public key {}\n{self}\n",
            self.id()
        )
    }
}

impl FromStr for TrustedKey {
    type Err = KeyError;

    /// The key's line, or the whole file with its comment.
    fn from_str(text: &str) -> Result<TrustedKey, KeyError> {
        let refused = || KeyError::Public {
            text: text.trim().chars().take(70).collect(),
        };
        if text.len() > MAX_KEY {
            return Err(refused());
        }
        let mut lines = text.trim().lines().map(str::trim);
        let line = lines.find(|line| !line.starts_with("untrusted comment:"));
        // What begins so in base64 is "Ed", the one algorithm that there is.
        let line = line.filter(|line| line.starts_with("RW"));
        let key = line.and_then(|line| PublicKey::from_base64(line).ok());
        key.map(TrustedKey).ok_or_else(refused)
    }
}

impl fmt::Display for TrustedKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.to_base64())
    }
}

impl fmt::Debug for TrustedKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "TrustedKey({self})")
    }
}

impl PartialEq for TrustedKey {
    fn eq(&self, other: &TrustedKey) -> bool {
        self.0.to_bytes() == other.0.to_bytes()
    }
}

impl Eq for TrustedKey {}

/// A key that signs.
pub struct SigningKey {
    secret: SecretKey,
    public: TrustedKey,
}

impl SigningKey {
    /// A new key, and the text of its file.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn generate(password: &Password) -> Result<(SigningKey, String), KeyError> {
        let failed = |error: minisign::PError| KeyError::Sign(error.to_string());
        let (pair, comment) = match password {
            Password::Given(password) => (
                KeyPair::generate_encrypted_keypair(Some(password.clone())),
                "minisign encrypted secret key",
            ),
            Password::None => (
                KeyPair::generate_unencrypted_keypair(),
                "minisign secret key, not encrypted",
            ),
        };
        let pair = pair.map_err(failed)?;
        let file = pair.sk.to_box(Some(comment)).map_err(failed)?.into_string();
        let key = SigningKey::open(&file, password)?;
        Ok((key, file))
    }

    /// The key of a file's text; the password is asked for once it shows that it is needed.
    ///
    /// # Errors
    /// If it is no key, or the password is missing or another one.
    pub fn open(file: &str, password: &Password) -> Result<SigningKey, KeyError> {
        let secret = |reason: &str| KeyError::Secret {
            reason: reason.into(),
        };
        if file.len() > MAX_KEY {
            return Err(secret("the file is too long"));
        }
        let line = file.lines().nth(1).map(str::trim);
        let line = line.ok_or_else(|| secret("it has no second line"))?;
        let bytes = STANDARD
            .decode(line)
            .map_err(|_| secret("its second line is not in base64"))?;
        // Algorithm, key derivation, checksum: then a salt, two limits, the key.
        if bytes.len() != 158 || !bytes.starts_with(b"Ed") {
            return Err(secret("its second line is something else"));
        }
        let boxed = SecretKeyBox::from_string(file).map_err(|error| secret(&error.to_string()))?;
        let key = match (&bytes[2..4], password) {
            // The C program writes no checksum where there is no password.
            ([0, 0], _) if bytes.ends_with(&[0; 32]) => {
                SecretKey::from_bytes(&bytes).map_err(|error| secret(&error.to_string()))?
            }
            ([0, 0], _) => boxed
                .into_unencrypted_secret_key()
                .map_err(|error| secret(&error.to_string()))?,
            (b"Sc", Password::None) => return Err(KeyError::Locked),
            (b"Sc", Password::Given(password)) => boxed
                .into_secret_key(Some(password.clone()))
                .map_err(|_| KeyError::Password)?,
            _ => return Err(secret("it is protected in a way that is not known here")),
        };
        let public =
            PublicKey::from_secret_key(&key).map_err(|error| secret(&error.to_string()))?;
        let key = SigningKey {
            secret: key,
            public: TrustedKey(public),
        };
        // A damaged one signs what nobody can verify.
        let signed = key.sign(b"", "").map_err(|_| secret("it is damaged"))?;
        let trusted = std::slice::from_ref(&key.public);
        verify(&signed, b"", trusted).map_err(|_| secret("it is damaged"))?;
        Ok(key)
    }

    /// The key that boxes are to trust.
    pub fn public(&self) -> &TrustedKey {
        &self.public
    }

    /// The signature of `body`, a text of four lines; `comment`, one line, is signed with it.
    pub(super) fn sign(&self, body: &[u8], comment: &str) -> Result<String, KeyError> {
        let untrusted = format!("signature from edge-rlp key {}", self.public.id());
        minisign::sign(
            Some(&self.public.0),
            &self.secret,
            Cursor::new(body),
            Some(comment),
            Some(&untrusted),
        )
        .map(SignatureBox::into_string)
        .map_err(|error| KeyError::Sign(error.to_string()))
    }
}

/// Which of `trusted` has signed `body`, and the comment that it has signed with it.
pub(super) fn verify<'a>(
    signature: &str,
    body: &[u8],
    trusted: &'a [TrustedKey],
) -> Result<(&'a TrustedKey, String), Refusal> {
    check_shape(signature)?;
    let malformed = |error: minisign::PError| Refusal::Malformed {
        fault: format!("its signature cannot be read ({error})"),
    };
    let signature = SignatureBox::from_string(signature).map_err(malformed)?;
    let by = id(signature.keynum());
    if !signature.is_prehashed() {
        return Err(Refusal::Malformed {
            fault: "its signature is of minisign's old kind, which is not taken".into(),
        });
    }
    // Numbers of keys are not secret, and anybody can make a key with the number of another.
    let mut named = trusted
        .iter()
        .filter(|key| key.0.keynum() == signature.keynum());
    if named.clone().next().is_none() {
        return Err(Refusal::UnknownKey { key: by });
    }
    let has_signed = |key: &&TrustedKey| {
        minisign::verify(&key.0, &signature, Cursor::new(body), true, false, false).is_ok()
    };
    let key = named.find(has_signed).ok_or(Refusal::Forged { key: by })?;
    Ok((key, signature.trusted_comment().map_err(malformed)?))
}

/// Whether a signature has its four lines with as many bytes as they must have: what reads them is not made for strangers.
fn check_shape(signature: &str) -> Result<(), Refusal> {
    let malformed = |fault: &str| Refusal::Malformed {
        fault: format!("its signature is none of minisign's: {fault}"),
    };
    let lines: Vec<&str> = signature.lines().collect();
    let [untrusted, by, comment, global] = lines[..] else {
        return Err(malformed("it has not four lines"));
    };
    if !untrusted.starts_with("untrusted comment: ") || !comment.starts_with("trusted comment: ") {
        return Err(malformed("its comments are missing"));
    }
    let has = |line: &str, bytes: usize| STANDARD.decode(line).is_ok_and(|of| of.len() == bytes);
    if !has(by, SIGNATURE_BYTES) || !has(global, GLOBAL_BYTES) {
        return Err(malformed(
            "a line of it has not the bytes that it must have",
        ));
    }
    Ok(())
}

fn id(number: &[u8]) -> String {
    number
        .iter()
        .rev()
        .map(|byte| format!("{byte:02X}"))
        .collect()
}
