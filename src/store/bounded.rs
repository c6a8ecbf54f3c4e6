//! Lists that are read from untrusted bytes: no longer than they may be, counted before they take memory. A list of
//! empty things takes far more memory than it has bytes.

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Reads a list of at most `MAX` items, for `#[serde(deserialize_with = "...")]`.
pub fn list<'de, D, T, const MAX: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_seq(Bounded::<T, MAX>(PhantomData))
}

struct Bounded<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Bounded<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "a list of at most {MAX}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            if list.len() == MAX {
                return Err(A::Error::custom(format_args!(
                    "a list has more than {MAX} entries"
                )));
            }
            list.push(item);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Short(#[serde(deserialize_with = "list::<_, _, 3>")] Vec<String>);

    #[test]
    fn a_list_that_is_too_long_is_refused_in_both_encodings() {
        let short = postcard::to_stdvec(&vec![""; 3]).unwrap();
        assert_eq!(postcard::from_bytes::<Short>(&short).unwrap().0.len(), 3);
        let long = postcard::to_stdvec(&vec![""; 4]).unwrap();
        assert!(postcard::from_bytes::<Short>(&long).is_err());
        let json = serde_json::from_str::<Short>(r#"["", "", "", ""]"#);
        let message = json.err().unwrap().to_string();
        assert!(message.contains("more than 3"), "{message}");
    }
}
