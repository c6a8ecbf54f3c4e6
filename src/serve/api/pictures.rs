//! Pictures of cameras: the newest as a JPEG, and a moving one as motion JPEG. A picture is encoded when somebody asks, once
//! for all who want the same size. A viewer that is slow gets fewer, and always the newest; where a camera is replaced by one of the
//! same name, the viewer sees that one.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::cameras::found;
use super::{Problem, State, blocking};
use crate::prompt::Region;
use crate::serve::Server;
use crate::serve::access::Caller;
use crate::serve::cameras::{CameraView, Jpeg, Picture};
use crate::serve::viewers::Viewing;

/// What separates the pictures of a stream.
const BOUNDARY: &str = "edge-rlp-picture";
/// The narrowest and the widest picture that may be asked for, in pixels.
const WIDTHS: std::ops::RangeInclusive<u32> = 16..=4096;
/// Pictures a second of a stream where nothing is said.
const RATE: f32 = 10.0;
/// How long a snapshot waits for the first picture of a camera.
const FIRST: Duration = Duration::from_secs(5);
/// A stream of a camera that sends nothing repeats its picture so often, so that a viewer that is gone is noticed.
const REPEAT: Duration = Duration::from_secs(10);
/// How long a camera that ended may take to come back: it is closed before it is opened anew.
const AGAIN: Duration = Duration::from_secs(15);
/// How often that is looked for.
const LOOK: Duration = Duration::from_millis(200);

/// What to see of a picture.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct View {
    region: Option<String>,
    width: Option<u32>,
    fps: Option<f32>,
    /// Anything: a picture of another address is not taken from a cache.
    #[serde(rename = "t")]
    _cache: Option<String>,
}

impl View {
    /// The region of `camera` that is meant; none for the whole picture.
    fn region(&self, camera: &CameraView) -> Result<Option<Region>, Problem> {
        let Some(name) = &self.region else {
            return Ok(None);
        };
        let region = camera.config.region(name);
        let region = region.ok_or_else(|| Problem::missing("region", name))?;
        Ok(region.region())
    }

    fn width(&self) -> Result<Option<u32>, Problem> {
        match self.width {
            Some(width) if !WIDTHS.contains(&width) => {
                let (least, most) = (WIDTHS.start(), WIDTHS.end());
                let said = format!("width is from {least} to {most} pixels");
                Err(Problem::refused(said))
            }
            width => Ok(width),
        }
    }
}

/// The newest picture of a camera.
pub async fn snapshot(
    server: State,
    Path(camera): Path<String>,
    view: Result<Query<View>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(view) = view?;
    let camera = found(&server, &camera)?;
    let (region, width) = (view.region(&camera)?, view.width()?);
    let mut pictures = camera.pictures();
    let picture = timeout(FIRST, newest(&mut pictures)).await;
    let Ok(Some(picture)) = picture else {
        let said = format!("camera {} has sent no picture yet", camera.config.name);
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, said));
    };
    let at = picture.at;
    let jpeg = blocking(move || Ok(picture.jpeg(region.as_ref(), width)?)).await?;
    Ok(jpeg_answer(Bytes::from_owner(jpeg), at))
}

/// A JPEG that no cache keeps: it may show people.
pub fn jpeg_answer(jpeg: Bytes, at: f64) -> Response {
    let mut answer = jpeg.into_response();
    let headers = answer.headers_mut();
    let kind = HeaderValue::from_static("image/jpeg");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(at) = HeaderValue::from_str(&format!("{at:.3}")) {
        headers.insert("x-picture-time", at);
    }
    answer
}

/// The picture that is there, or the first that comes.
async fn newest(pictures: &mut Receiver<Option<Arc<Picture>>>) -> Option<Arc<Picture>> {
    let found = pictures.wait_for(Option::is_some).await;
    found.ok().and_then(|picture| picture.clone())
}

/// A viewer of a moving picture.
struct Viewer {
    server: Arc<Server>,
    caller: Caller,
    camera: String,
    view: View,
    pictures: Receiver<Option<Arc<Picture>>>,
    region: Option<Region>,
    width: Option<u32>,
    /// The time from one picture to the next at least, and when the next may be sent.
    pace: Duration,
    next: Instant,
    sent: u64,
    _open: Viewing,
}

/// A moving picture of a camera.
pub async fn stream(
    server: State,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    view: Result<Query<View>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(view) = view?;
    let camera = found(&server, &name)?;
    let rate = view.fps.unwrap_or(RATE);
    if !(0.1..=60.0).contains(&rate) {
        return Err(Problem::refused("fps is from 0.1 to 60 pictures a second"));
    }
    let viewer = Viewer {
        region: view.region(&camera)?,
        width: view.width()?,
        pictures: camera.pictures(),
        pace: Duration::from_secs_f32(1.0 / rate),
        next: Instant::now(),
        sent: 0,
        _open: server.viewers.enter().ok_or_else(too_many)?,
        server: Arc::clone(&server),
        caller,
        camera: name,
        view,
    };
    let parts = stream::unfold(viewer, |viewer| async move {
        let (part, viewer) = viewer.next().await?;
        Some((Ok::<_, Infallible>(part), viewer))
    });
    let kind = format!("multipart/x-mixed-replace; boundary={BOUNDARY}");
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store".into()),
    ];
    Ok((headers, Body::from_stream(parts)).into_response())
}

/// There are as many viewers as one box serves.
pub fn too_many() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "too many moving pictures and event streams are open: close one",
    )
}

impl Viewer {
    /// The next picture of the stream; none where the camera is gone, or may not be seen any more. It is asked for only once the one
    /// before was sent.
    async fn next(mut self) -> Option<(Bytes, Viewer)> {
        sleep_until(self.next).await;
        if !self.server.access.still_admits(&self.caller) {
            return None;
        }
        let sent = self.sent;
        let other = |picture: &Option<Arc<Picture>>| {
            picture
                .as_ref()
                .is_some_and(|picture| picture.number != sent)
        };
        let waited = timeout(REPEAT, self.pictures.wait_for(other)).await;
        let found = match waited.map(|found| found.map(|picture| picture.clone())) {
            Ok(Ok(found)) => found,
            Ok(Err(_)) => {
                self.follow().await?;
                None
            }
            Err(_) => self.pictures.borrow().clone(),
        };
        let Some(picture) = found else {
            // It has sent nothing yet: an empty line keeps the connection.
            return Some((Bytes::from_static(b"\r\n"), self));
        };
        self.next = Instant::now() + self.pace;
        self.sent = picture.number;
        let (region, width) = (self.region.clone(), self.width);
        let jpeg = blocking(move || Ok(picture.jpeg(region.as_ref(), width)?)).await;
        match jpeg {
            Ok(jpeg) => Some((part(&jpeg), self)),
            // A region that lies beyond this picture may lie in the next.
            Err(_) => Some((Bytes::from_static(b"\r\n"), self)),
        }
    }

    /// Goes over to the camera that has the name now; none where there is none, or none that has the region.
    async fn follow(&mut self) -> Option<()> {
        let begun = Instant::now();
        loop {
            if let Some(camera) = self.server.cameras.get(&self.camera) {
                self.region = self.view.region(&camera).ok()?;
                self.pictures = camera.pictures();
                self.sent = 0;
                return Some(());
            }
            if begun.elapsed() > AGAIN || !self.server.access.still_admits(&self.caller) {
                return None;
            }
            sleep(LOOK).await;
        }
    }
}

fn part(jpeg: &Jpeg) -> Bytes {
    let head = format!(
        "--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
        jpeg.len()
    );
    let mut bytes = Vec::with_capacity(head.len() + jpeg.len() + 2);
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(jpeg);
    bytes.extend_from_slice(b"\r\n");
    bytes.into()
}
