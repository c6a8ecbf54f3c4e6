//! What `--motion` saves where nothing happens: processor time of a still scene of the demo camera, with the noise of a sensor,
//! named frame by frame and only where something changes; from drawn frames and from a stream of JPEG pictures of 640 x 480, of
//! which decoding takes its part either way. A line of JSON each.
//! `cargo bench --bench motion`

use std::error::Error;
use std::fs;
use std::time::Duration;

use edge_rlp::frames::demo::{self, CLASSES};
use edge_rlp::frames::{CameraOptions, CameraSource, Frame, Frames};
use edge_rlp::image::imageops::{FilterType, resize};
use edge_rlp::prompt::{Label, Template};
use edge_rlp::watch::motion::Sensitivity;
use edge_rlp::watch::{Event, MotionGate, Watch, WatchOptions};
use edge_rlp::{Classifier, Model};

const FRAMES: usize = 900;

fn main() -> Result<(), Box<dyn Error>> {
    let model = Model::embedded()?;
    let labels = CLASSES.iter().map(|name| Label::new(name, None));
    let labels: Vec<Label> = labels.collect::<Result<_, _>>()?;
    let still = still_scene();
    let folder = std::env::temp_dir().join(format!("edge-rlp-motion-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let clip = folder.join("still.mjpeg");
    fs::write(&clip, mjpeg(&still)?)?;
    let film: CameraSource = format!("file:{}", clip.display()).parse()?;
    for source in ["drawn frames of 96 x 96", "JPEG stream of 640 x 480"] {
        let mut seconds = Vec::new();
        let mut named = Vec::new();
        for motion in [false, true] {
            let mut frames = match source {
                "drawn frames of 96 x 96" => Frames::given(still.clone().into_iter()),
                _ => film.open(0, &CameraOptions::default())?,
            };
            let mut options = WatchOptions::default();
            options.motion = motion.then(|| MotionGate {
                sensitivity: Sensitivity::default(),
                at_least: Duration::from_secs(30),
            });
            let classifier = Classifier::zero_shot(&model, &Template::default(), &labels)?;
            let mut watch = Watch::new(&mut frames, classifier, None, options);
            let begun = processor_time();
            let mut inferences = 0;
            loop {
                match watch.next(&|| false)? {
                    Event::Named(_) => inferences += 1,
                    Event::Ended => break,
                    _ => {}
                }
            }
            seconds.push(processor_time() - begun);
            named.push(inferences);
        }
        println!(
            "{}",
            serde_json::json!({
                "source": source,
                "frames": FRAMES,
                "named": named,
                "processor_seconds": seconds.iter().map(|s| (1e3 * s).round() / 1e3).collect::<Vec<_>>(),
                "less": (1e3 * (1.0 - seconds[1] / seconds[0])).round() / 1e3,
            })
        );
    }
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// One scene of the demo camera, over and over, with noise.
fn still_scene() -> Vec<Frame> {
    let scene = demo::stream(vec![0], 1).next().expect("it never ends");
    let mut noise = 1u32;
    (0..FRAMES as u64)
        .map(|index| {
            let mut frame = scene.clone();
            frame.index = index;
            for value in frame.image.iter_mut() {
                noise ^= noise << 13;
                noise ^= noise >> 17;
                noise ^= noise << 5;
                *value = value.saturating_add((noise % 7) as u8);
            }
            frame
        })
        .collect()
}

/// The same as motion JPEG, larger.
fn mjpeg(frames: &[Frame]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut stream = Vec::new();
    for frame in frames {
        let mut larger = frame.clone();
        larger.image = resize(&frame.image, 640, 480, FilterType::Triangle);
        stream.extend(larger.to_jpeg()?);
    }
    Ok(stream)
}

/// Of all threads of this process, in seconds.
fn processor_time() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    // utime and stime, in hundredths of a second.
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    (ticks(11).unwrap_or_default() + ticks(12).unwrap_or_default()) / 100.0
}
