//! Watching the demo camera and recorded streams with the model in the program.

use super::*;
use crate::clip::Model;
use crate::frames::demo::{self, CLASSES};
use crate::frames::{CameraOptions, CameraSource};
use crate::prompt::Prompt;
use crate::prompt::{Delta, Label, Template};
use crate::rng::Rng;
use crate::store::Home;
use ndarray::Array2;

/// A prompt of `model` for all that the demo draws, that was not trained.
fn untrained(model: &Model) -> Prompt {
    let labels = CLASSES.iter().map(|name| Label::new(name, None));
    let labels = labels.collect::<Result<_, _>>().unwrap();
    let change = Delta::Full(Array2::zeros((4, model.text.width())));
    let (name, fingerprint) = (&model.name, model.fingerprint.0);
    Prompt::new(name, fingerprint, Template::default(), labels, change)
}

fn demo() -> Frames {
    let source: CameraSource = "demo".parse().unwrap();
    source.open(5, &CameraOptions::default()).unwrap()
}

fn named(event: Event) -> Named {
    match event {
        Event::Named(named) => *named,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_region_of_a_frame_is_named_by_itself() {
    let model = Model::embedded().unwrap();
    let classifier = Classifier::with_prompt(&model, &untrained(&model)).unwrap();
    let mut frames = demo();
    let options = WatchOptions {
        frames: Some(3),
        regions: ["left=0,0,50,100", "right=50,0,50,100"]
            .map(|region| region.parse().unwrap())
            .to_vec(),
        ..WatchOptions::default()
    };
    let mut watch = Watch::new(&mut frames, classifier, None, options);
    for index in 0..3 {
        for region in ["left", "right"] {
            let named = named(watch.next(&|| false).unwrap());
            assert_eq!((named.frame.index, named.region.as_str()), (index, region));
            let (width, height) = named.frame.image.dimensions();
            assert_eq!(2 * width, height, "half of a square");
            assert_eq!(
                named.change.is_some_and(|c| c.previous.is_none()),
                index == 0
            );
        }
    }
    assert!(matches!(watch.next(&|| false).unwrap(), Event::Ended));
}

#[test]
fn only_frames_in_which_something_changes_are_named() {
    let model = Model::embedded().unwrap();
    let classifier = Classifier::with_prompt(&model, &untrained(&model)).unwrap();
    let mut frames = demo();
    let options = WatchOptions {
        frames: Some(6),
        regions: vec!["corner=0,0,4,4".parse().unwrap()],
        motion: Some(MotionGate {
            sensitivity: motion::Sensitivity::new(1).unwrap(),
            at_least: Duration::from_secs(600),
        }),
        ..WatchOptions::default()
    };
    let mut watch = Watch::new(&mut frames, classifier, None, options);
    assert!(matches!(watch.next(&|| false).unwrap(), Event::Named(_)));
    while !matches!(watch.next(&|| false).unwrap(), Event::Ended) {}
    let savings = watch.savings();
    assert_eq!(savings.named + savings.still, 6);
    assert!((0.0..=1.0).contains(&savings.share()));
}

#[test]
fn every_frame_is_an_event_and_a_new_label_a_change() {
    let model = Model::embedded().unwrap();
    let classifier = Classifier::with_prompt(&model, &untrained(&model)).unwrap();
    let mut frames = demo();
    let options = WatchOptions {
        frames: Some(12),
        ..WatchOptions::default()
    };
    let mut watch = Watch::new(&mut frames, classifier, None, options);
    let mut before = None;
    for _ in 0..12 {
        let named = named(watch.next(&|| false).unwrap());
        assert!(named.truth().is_some());
        let shown = Shown::of(&named.answer);
        match &named.change {
            Some(change) => {
                assert_eq!((&change.previous, &change.shown), (&before, &shown));
                assert_eq!(change.frame, named.frame.index);
            }
            None => assert_eq!(before.as_ref(), Some(&shown)),
        }
        before = Some(shown);
    }
    assert!(matches!(watch.next(&|| false), Ok(Event::Ended)));
    let mut watch = Watch::new(
        &mut frames,
        watch_again(&model),
        None,
        WatchOptions::default(),
    );
    assert!(matches!(watch.next(&|| true), Ok(Event::Ended)));
}

fn watch_again(model: &Model) -> Classifier<'_> {
    Classifier::with_prompt(model, &untrained(model)).unwrap()
}

#[test]
fn a_prompt_that_was_replaced_is_an_event_before_the_frame_that_it_names() {
    let model = Model::embedded().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path());
    let prompt = untrained(&model);
    home.save("shelf", &prompt).unwrap();
    let loaded = home.load("shelf").unwrap().record;
    let classifier = Classifier::with_prompt(&model, &loaded).unwrap();
    let renewal = Renewal::new(&home, "shelf", loaded).every(Duration::ZERO);
    let mut frames = demo();
    let options = WatchOptions::default();
    let mut watch = Watch::new(&mut frames, classifier, Some(renewal), options);
    let next = |watch: &mut Watch| watch.next(&|| false).unwrap();
    assert_eq!(named(next(&mut watch)).frame.index, 0);

    let mut other = prompt.clone();
    other.seed += 1;
    home.save("shelf", &other).unwrap();
    let event = next(&mut watch);
    assert!(
        matches!(event, Event::Prompt(PromptChange::InUse { sequence: 2 })),
        "{event:?}"
    );
    assert_eq!(named(next(&mut watch)).frame.index, 1);

    other.labels.pop();
    home.save("shelf", &other).unwrap();
    let event = next(&mut watch);
    assert!(
        matches!(event, Event::Prompt(PromptChange::OtherLabels)),
        "{event:?}"
    );
    assert_eq!(named(next(&mut watch)).answer.labels().len(), CLASSES.len());
}

/// Drawn scenes, each shown `each` times with the noise of a sensor.
fn scenes(count: usize, each: usize) -> Vec<Frame> {
    let mut rng = Rng::new(5);
    let mut frames = Vec::new();
    for drawn in demo::stream(vec![0], 5).take(count) {
        for _ in 0..each {
            let mut frame = drawn.clone();
            frame.index = frames.len() as u64;
            for value in frame.image.iter_mut() {
                *value = value.saturating_add(rng.below(7) as u8);
            }
            frames.push(frame);
        }
    }
    frames
}

/// The changes of what is shown, as (frame, label), and what was saved.
fn changes(frames: Vec<Frame>, options: WatchOptions) -> (Vec<(u64, String)>, Savings) {
    let model = Model::embedded().unwrap();
    let classifier = Classifier::with_prompt(&model, &untrained(&model)).unwrap();
    let mut frames = Frames::given(frames.into_iter());
    let mut watch = Watch::new(&mut frames, classifier, None, options);
    let mut found = Vec::new();
    loop {
        match watch.next(&|| false).unwrap() {
            Event::Named(named) => found.extend(
                named
                    .change
                    .map(|change| (change.frame, change.shown.to_string())),
            ),
            Event::Still(_) => {}
            Event::Ended => return (found, watch.savings()),
            other => panic!("{other:?}"),
        }
    }
}

fn gated() -> Option<MotionGate> {
    Some(MotionGate {
        sensitivity: motion::Sensitivity::default(),
        at_least: Duration::from_secs(600),
    })
}

#[test]
fn a_still_scene_costs_a_tenth_of_the_inferences_at_most() {
    let (_, savings) = changes(
        scenes(1, 400),
        WatchOptions {
            motion: gated(),
            ..WatchOptions::default()
        },
    );
    assert_eq!((savings.named, savings.still), (1, 399));
    assert!(savings.share() > 0.9, "{savings:?}");
}

#[test]
fn none_of_200_changes_of_label_is_missed_or_late_where_only_motion_is_named() {
    let frames = scenes(230, 2);
    let options = WatchOptions {
        motion: gated(),
        ..WatchOptions::default()
    };
    let (all, _) = changes(frames.clone(), WatchOptions::default());
    let new: Vec<u64> = (0..frames.len() as u64).step_by(2).collect();
    let (gated, savings) = changes(frames, options);
    // What is shown when a scene has just come.
    let at = |changes: &[(u64, String)], frame: u64| {
        let until = changes.partition_point(|(at, _)| *at <= frame);
        changes[until - 1].1.clone()
    };
    let labels: Vec<String> = new.iter().map(|&frame| at(&all, frame)).collect();
    let changes = labels.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes >= 200, "{changes}");
    for (&frame, label) in new.iter().zip(&labels) {
        assert_eq!(&at(&gated, frame), label, "frame {frame}");
    }
    assert!(savings.still >= 200, "{savings:?}");
}

#[test]
fn a_change_that_needs_more_answers_alike_or_an_average_is_followed_to_its_end() {
    let frames = scenes(3, 12);
    for (confirm, smooth) in [(4, Duration::ZERO), (1, Duration::from_secs(3600))] {
        let options = WatchOptions {
            confirm,
            smooth,
            ..WatchOptions::default()
        };
        let (all, _) = changes(frames.clone(), options.clone());
        let motion = gated();
        let (gated, savings) = changes(frames.clone(), WatchOptions { motion, ..options });
        assert_eq!(all, gated, "{confirm} {smooth:?}");
        assert_eq!(savings.still > 0, smooth.is_zero());
    }
}

#[test]
fn what_does_not_change_is_named_once_in_a_while_and_by_each_new_prompt() {
    let model = Model::embedded().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let home = Home::new(dir.path());
    home.save("shelf", &untrained(&model)).unwrap();
    let loaded = home.load("shelf").unwrap().record;
    let classifier = Classifier::with_prompt(&model, &loaded).unwrap();
    let renewal = Renewal::new(&home, "shelf", loaded.clone()).every(Duration::ZERO);
    let mut frames = Frames::given(scenes(1, 20).into_iter());
    let options = WatchOptions {
        motion: gated(),
        ..WatchOptions::default()
    };
    let mut watch = Watch::new(&mut frames, classifier, Some(renewal), options);
    let mut next = || watch.next(&|| false).unwrap();
    named(next());
    assert!(matches!(next(), Event::Still(1)), "nothing changes");
    home.save("shelf", &Prompt { seed: 9, ..loaded }).unwrap();
    assert!(matches!(next(), Event::Prompt(PromptChange::InUse { .. })));
    assert_eq!(named(next()).frame.index, 2);
    assert!(matches!(next(), Event::Still(_)));

    let classifier = watch_again(&model);
    let mut frames = Frames::given(scenes(1, 20).into_iter());
    let at_least = Duration::ZERO;
    let motion = gated().map(|gate| MotionGate { at_least, ..gate });
    let options = WatchOptions {
        motion,
        ..WatchOptions::default()
    };
    let mut watch = Watch::new(&mut frames, classifier, None, options);
    (0..20).for_each(|_| drop(named(watch.next(&|| false).unwrap())));
}

#[test]
fn regions_can_be_changed_while_a_camera_is_watched() {
    let model = Model::embedded().unwrap();
    let mut frames = demo();
    let [left, right] = ["left=0,0,50,100", "right=50,0,50,100"].map(|text| text.parse().unwrap());
    let options = WatchOptions {
        regions: vec![left],
        ..WatchOptions::default()
    };
    let mut watch = Watch::new(&mut frames, watch_again(&model), None, options);
    assert_eq!(named(watch.next(&|| false).unwrap()).region, "left");
    watch.set_regions(vec![right]);
    let named_right = named(watch.next(&|| false).unwrap());
    assert_eq!(
        (&*named_right.region, named_right.frame.index),
        ("right", 1)
    );
    assert_eq!(
        named_right.whole.image.width(),
        2 * named_right.frame.image.width()
    );
    watch.set_regions(Vec::new());
    let whole = named(watch.next(&|| false).unwrap());
    assert!(Arc::ptr_eq(&whole.frame, &whole.whole));
}

#[test]
fn parts_are_named_by_classifiers_of_their_own_and_every_frame_is_seen() {
    let model = Model::embedded().unwrap();
    let whole = untrained(&model);
    let mut two = whole.clone();
    two.labels.truncate(2);
    let part = |region: Option<&str>, prompt: &Prompt| NamedPart {
        region: region.map(|region| region.parse().unwrap()),
        classifier: Classifier::with_prompt(&model, prompt).unwrap(),
    };
    let parts = vec![part(None, &whole), part(Some("left=0,0,50,100"), &two)];
    let options = || WatchOptions {
        frames: Some(2),
        ..WatchOptions::default()
    };
    let seen = std::cell::RefCell::new(Vec::new());
    let observer = |frame: LazyFrame| seen.borrow_mut().push(frame.index);
    let mut frames = demo();
    let watch = Watch::of_parts(&mut frames, parts, options());
    let mut watch = watch.on_frame(&observer);
    for _ in 0..2 {
        let first = named(watch.next(&|| false).unwrap());
        assert_eq!(
            (first.region.as_str(), first.answer.labels().len()),
            ("", CLASSES.len())
        );
        let second = named(watch.next(&|| false).unwrap());
        assert_eq!(
            (second.region.as_str(), second.answer.labels().len()),
            ("left", 2)
        );
    }
    assert_eq!(*seen.borrow(), [0, 1]);
    let mut unnamed = Watch::of_parts(&mut frames, Vec::new(), options());
    assert!(matches!(unnamed.next(&|| false), Ok(Event::Still(2))));
}

/// `frames` as a file of motion JPEG.
fn film(folder: &std::path::Path, frames: &[Frame]) -> CameraSource {
    let path = folder.join("film.mjpeg");
    let pictures = frames.iter().map(|frame| frame.to_jpeg().unwrap());
    std::fs::write(&path, pictures.collect::<Vec<_>>().concat()).unwrap();
    format!("file:{}", path.display()).parse().unwrap()
}

/// Two thirds of the time went into pictures of which nothing was named.
#[test]
fn of_a_stream_of_jpegs_only_those_are_decoded_in_which_something_changes() {
    let dir = tempfile::tempdir().unwrap();
    let source = film(dir.path(), &scenes(3, 4));
    let model = Model::embedded().unwrap();
    let options = || WatchOptions {
        motion: gated(),
        regions: vec!["most=0,0,90,90".parse().unwrap()],
        ..WatchOptions::default()
    };
    let open = || source.open(0, &CameraOptions::default()).unwrap();
    let mut frames = open();
    let mut watch = Watch::new(&mut frames, watch_again(&model), None, options());
    let mut found = Vec::new();
    loop {
        match watch.next(&|| false).unwrap() {
            Event::Named(named) => found.push((named.whole.index, true)),
            Event::Still(index) => found.push((index, false)),
            Event::Ended => break,
            other => panic!("{other:?}"),
        }
    }
    let expected: Vec<(u64, bool)> = (0..12).map(|index| (index, index % 4 == 0)).collect();
    assert_eq!(found, expected);
    // None of the others was decoded.
    let (mut frames, mut parts) = (open(), Vec::new());
    let mut lookout = Lookout::new(parts_of(&[], &watch_again(&model)), &options(), true);
    loop {
        let event = frames.next_if(&|| false, &mut |frame| {
            let due = lookout.look(frame).unwrap();
            if due {
                lookout.parts.iter_mut().for_each(parts::Part::called);
            }
            due
        });
        match event.unwrap() {
            CameraEvent::Frame(frame) => parts.push(frame.index),
            CameraEvent::Passed(_) => {}
            CameraEvent::End => break,
            CameraEvent::Problem(problem) => panic!("{problem}"),
        }
    }
    assert_eq!(parts, [0, 4, 8]);
    // Whoever watches sees every frame, and those that are not named are decoded for nobody.
    let mut frames = open();
    let seen = std::cell::RefCell::new(Vec::new());
    let observer = |frame: LazyFrame| {
        let decoded = frame.opened().is_some();
        seen.borrow_mut().push((frame.index, decoded));
        assert_eq!(frame.open().unwrap().index, frame.index);
    };
    let watch = Watch::new(&mut frames, watch_again(&model), None, options());
    let mut watch = watch.on_frame(&observer);
    while !matches!(watch.next(&|| false).unwrap(), Event::Ended) {}
    assert_eq!(watch.savings().still, 9);
    assert_eq!(*seen.borrow(), expected);
}
