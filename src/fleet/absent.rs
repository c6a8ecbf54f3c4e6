//! What is asked of a fleet where the feature `fleet` is off.

pub mod follower {
    use crate::prompt::Prompt;
    use crate::store::Home;

    /// No prompt came from one.
    pub fn is_of_fleet(_: &Home, _: &Prompt) -> bool {
        false
    }
}
