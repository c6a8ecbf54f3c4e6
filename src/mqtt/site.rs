//! What is reported on: a box, its cameras and their regions, and which topics they have.

use std::collections::BTreeSet;
use std::time::Duration;

use super::MqttError;
use super::topics::{CameraTopics, PREFIX, RegionTopics, Root, level};

/// How much of a box one program reports on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of it: `edge-rlp/BOX` is this program's.
    Box,
    /// One camera, beside other programs that report on others: `edge-rlp/BOX/CAMERA` is this program's.
    Camera,
}

/// A box and its cameras.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The box's name; other boxes at this broker have others.
    pub name: String,
    /// Whether other programs report on the same box.
    pub scope: Scope,
    /// Where the box's page is, to be linked to: an address that begins with `http://` or `https://`.
    pub page: Option<String>,
    /// Its cameras; exactly one with [`Scope::Camera`].
    pub cameras: Vec<SiteCamera>,
}

/// A camera.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteCamera {
    /// Its name.
    pub name: String,
    /// A label that was not confirmed for so long is no longer known; none where pictures come when they come.
    pub expires: Option<Duration>,
    /// Whether pictures are sent.
    pub snapshots: bool,
    /// Its regions.
    pub regions: Vec<SiteRegion>,
}

/// A region of a camera's pictures, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRegion {
    /// Its name.
    pub name: String,
    /// What it can show.
    pub labels: Vec<String>,
    /// What can be changed from outside; none where nothing can.
    pub controls: Option<Controls>,
}

/// What of a region can be changed from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controls {
    /// The prompts to choose from.
    pub prompts: Vec<String>,
}

/// A site whose names are those of topics.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub site: Site,
    pub root: Root,
    /// As many as the site has cameras.
    pub cameras: Vec<PlannedCamera>,
}

#[derive(Clone, Debug)]
pub(super) struct PlannedCamera {
    pub topics: CameraTopics,
    /// As many as the camera has regions.
    pub regions: Vec<RegionTopics>,
}

impl Plan {
    /// # Errors
    /// If a name cannot be one of a topic's levels.
    pub fn new(site: Site) -> Result<Plan, MqttError> {
        let whole = format!("{PREFIX}/{}", level("the name of a box", &site.name)?);
        let camera = |camera: &SiteCamera| -> Result<PlannedCamera, MqttError> {
            let name = level("the name of a camera", &camera.name)?;
            let topics = CameraTopics(format!("{whole}/{name}"));
            let region = |region: &SiteRegion| {
                Ok(topics.region(&level("the name of a region", &region.name)?))
            };
            let regions = camera.regions.iter().map(region);
            Ok(PlannedCamera {
                regions: regions.collect::<Result<_, MqttError>>()?,
                topics,
            })
        };
        let cameras: Vec<PlannedCamera> =
            site.cameras.iter().map(camera).collect::<Result<_, _>>()?;
        let root = match (site.scope, &cameras[..]) {
            (Scope::Camera, [camera, ..]) => Root(camera.topics.0.clone()),
            _ => Root(whole),
        };
        Ok(Plan {
            site,
            root,
            cameras,
        })
    }

    /// The cameras and what they are called.
    pub fn cameras(&self) -> impl Iterator<Item = (&SiteCamera, &PlannedCamera)> {
        self.site.cameras.iter().zip(&self.cameras)
    }

    /// The regions of all cameras and what they are called.
    pub fn regions(&self) -> impl Iterator<Item = (&SiteCamera, &SiteRegion, &RegionTopics)> {
        self.cameras().flat_map(|(camera, planned)| {
            let regions = camera.regions.iter().zip(&planned.regions);
            regions.map(move |(region, topics)| (camera, region, topics))
        })
    }

    /// The topics of a region.
    pub fn region(&self, camera: &str, region: &str) -> Option<&RegionTopics> {
        let mut all = self.regions();
        all.find_map(|(of, found, topics)| {
            (of.name == camera && found.name == region).then_some(topics)
        })
    }

    /// The topics of a camera.
    pub fn camera(&self, camera: &str) -> Option<&CameraTopics> {
        let mut all = self.cameras();
        all.find_map(|(found, planned)| (found.name == camera).then_some(&planned.topics))
    }

    /// Every topic where the broker may hold something of this site, but for what all programs have.
    pub fn topics(&self) -> BTreeSet<String> {
        let mut topics = BTreeSet::new();
        for (_, planned) in self.cameras() {
            topics.insert(planned.topics.problem());
            topics.insert(planned.topics.problem_attributes());
        }
        for (camera, region, of) in self.regions() {
            topics.insert(of.state());
            topics.insert(of.attributes());
            if camera.snapshots {
                topics.insert(of.image());
            }
            if region.controls.is_some() {
                topics.extend([of.prompt(), of.threshold()]);
            }
        }
        topics
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A shop with the camera "door", its region "shelf" and two labels.
    pub fn shop(scope: Scope) -> Site {
        let region = SiteRegion {
            name: "shelf".into(),
            labels: vec!["full".into(), "empty".into()],
            controls: (scope == Scope::Box).then(|| Controls {
                prompts: vec!["shelf".into(), "night".into()],
            }),
        };
        let camera = SiteCamera {
            name: "door".into(),
            expires: Some(Duration::from_secs(60)),
            snapshots: true,
            regions: vec![region],
        };
        Site {
            name: "shop".into(),
            scope,
            page: Some("http://shop.local:8080/".into()),
            cameras: vec![camera],
        }
    }

    #[test]
    fn a_program_that_reports_on_one_camera_owns_no_more_than_that() {
        let plan = Plan::new(shop(Scope::Camera)).unwrap();
        assert_eq!(plan.root.status(), "edge-rlp/shop/door/status");
        let whole = Plan::new(shop(Scope::Box)).unwrap();
        assert_eq!(whole.root.status(), "edge-rlp/shop/status");
        for plan in [&plan, &whole] {
            let region = plan.region("door", "shelf").unwrap();
            assert_eq!(region.state(), "edge-rlp/shop/door/shelf/state");
        }
        assert!(plan.region("door", "floor").is_none());
        assert!(
            whole
                .topics()
                .contains("edge-rlp/shop/door/shelf/threshold")
        );
        assert!(!plan.topics().contains("edge-rlp/shop/door/shelf/threshold"));
    }
}
