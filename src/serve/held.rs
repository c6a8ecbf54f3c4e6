//! States that wait until those who listen at a broker know their label: Home Assistant drops a state that is none of the options
//! it was told of, and takes a moment to hear of new ones.

use std::collections::BTreeMap;

use crate::mqtt::Site;
use crate::watch::Shown;

/// What waits, the newest of each camera and region.
pub struct Held<T> {
    /// What the broker has held since a while ago.
    settled: Site,
    waiting: BTreeMap<(String, String), T>,
}

impl<T> Held<T> {
    /// Nothing waits where the broker holds `site`.
    pub fn new(site: Site) -> Held<T> {
        Held {
            settled: site,
            waiting: BTreeMap::new(),
        }
    }

    /// Whether `label` of a region may be told where the broker now holds `site`; if not, `state` waits. What waited of that
    /// region is out of date.
    pub fn may_tell(
        &mut self,
        site: &Site,
        place: (&str, &str),
        label: &Shown,
        state: impl FnOnce() -> T,
    ) -> bool {
        let key = (place.0.to_owned(), place.1.to_owned());
        self.waiting.remove(&key);
        let known = [site, &self.settled]
            .iter()
            .all(|site| knows(site, place, label));
        if !known {
            self.waiting.insert(key, state());
        }
        known
    }

    /// What waited, for `site` was told of a while ago; what is still not known waits again.
    pub fn settle(&mut self, site: &Site) -> Vec<T> {
        self.settled = site.clone();
        std::mem::take(&mut self.waiting).into_values().collect()
    }
}

/// Whether those who were told of `site` know that the region may show `label`.
fn knows(site: &Site, (camera, region): (&str, &str), label: &Shown) -> bool {
    let Shown::Label(label) = label else {
        return true;
    };
    let of = site.cameras.iter().filter(|of| of.name == camera);
    let mut of = of.flat_map(|of| &of.regions);
    of.any(|of| of.name == region && of.labels.contains(label))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::{Scope, SiteCamera, SiteRegion};

    fn site(labels: &[&str]) -> Site {
        Site {
            name: "shop".into(),
            scope: Scope::Box,
            page: None,
            cameras: vec![SiteCamera {
                name: "door".into(),
                expires: None,
                snapshots: false,
                regions: vec![SiteRegion {
                    name: "whole".into(),
                    labels: labels.iter().map(|label| (*label).to_owned()).collect(),
                    controls: None,
                }],
            }],
        }
    }

    #[test]
    fn home_assistant_dropped_the_first_state_of_a_label_that_it_was_not_told_of_yet() {
        let (old, new) = (site(&["cat"]), site(&["truck"]));
        let place = ("door", "whole");
        let label = |name: &str| Shown::Label(name.to_owned());
        let mut held = Held::new(old.clone());
        assert!(held.may_tell(&old, place, &label("cat"), || 1));
        assert!(held.may_tell(&old, place, &Shown::Unknown, || 2));
        assert!(!held.may_tell(&old, place, &label("truck"), || 3));
        // The broker holds it, and who listens has not had the time to take it in.
        assert!(!held.may_tell(&new, place, &label("truck"), || 4));
        assert!(
            !held.may_tell(&new, place, &label("cat"), || 5),
            "it is gone"
        );
        assert!(!held.may_tell(&new, place, &label("truck"), || 6));
        assert_eq!(held.settle(&new), [6]);
        assert!(held.may_tell(&new, place, &label("truck"), || 7));
        assert!(held.settle(&new).is_empty());
    }
}
