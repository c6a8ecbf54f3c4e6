//! Prompts that travel: an owner signs what every box of a group is to use, a broker that anybody may run carries it, and a box
//! takes it only if a key that it trusts has signed it, if it is for this box, newer than what it has, and, on its own kept
//! shots, at least as good. docs/fleet.md has the format byte for byte, the topics, and what an attacker can do.
//!
//! | module | what it is |
//! |---|---|
//! | `group` | which boxes, and what each of them looks at |
//! | `key` | the keys, in minisign's format |
//! | [`key_file`] | where the secret ones lie |
//! | `notice` | what is signed, and its bytes |
//! | `refusal` | why a box does not take what has come |
//! | [`judge`] | whether a prompt from elsewhere is at least as good on a box's own pictures |
//! | [`follower`] | a box: from a message to a prompt in use |
//! | [`member`] | a box at a broker |
//! | [`models`], `fetch` | the models that a box has, and one that it lacks |
//! | [`merge`] | one prompt of many |
//! | [`publisher`] | whoever publishes |
//! | [`topics`], `report` | where it is said, and what a box says |
//! | `decision` | what a box does with a notice, before it looks at a picture |

mod decision;
pub mod fetch;
pub mod follower;
mod group;
pub mod judge;
mod key;
pub mod key_file;
pub mod member;
pub mod merge;
pub mod models;
mod notice;
pub mod publisher;
mod refusal;
mod report;
pub mod topics;

pub use decision::{Channel, Decision, Following, Record, Taken, decide, is_canary};
pub use follower::{Follower, Outcome, Subscription, Tools, Trouble};
pub use group::{Canary, Group, check_region};
pub use key::{KeyError, Password, SigningKey, TrustedKey};
pub use member::{Member, News};
pub use notice::{Bundle, Kind, MAX_BYTES, Notice, NoticeError, Signed, read, read_unsigned};
pub use publisher::{PublishError, Published, Publisher, publish};
pub use refusal::Refusal;
pub use report::{MAX_REPORT_BYTES, RegionReport, Report};
