//! What goes wrong with one camera, with its prompt or with the disk: it is told where people look for it, and nothing else
//! notices.

use super::*;
use crate::clip::Model;
use crate::prompt::{Delta, Label, Prompt, Template, Tuning};
use crate::serve::config::{RecentConfig, parse};
use crate::serve::events::{Event, PromptAct, PromptChange};
use crate::serve::shots::{Shots, ShotsError};
use crate::store::faults::{Fault, FaultyDisk};
use crate::store::file_system::{Access, FileSystem};
use std::sync::atomic::AtomicUsize;
use std::thread::sleep;

const TWO: &str = r#"
[[camera]]
name = "good"
source = "demo"
every = "50ms"
prompt = "good"

[[camera]]
name = "bad"
source = "demo"
every = "50ms"
prompt = "bad"
"#;

fn labels() -> [Label; 3] {
    ["mug", "fish", "key"].map(|name| Label::new(name, None).unwrap())
}

/// A home folder in memory, in which both prompts have labels and nothing is trained.
fn home() -> (FaultyDisk, Home) {
    let disk = FaultyDisk::default();
    let home = Home::with_files("/home", Arc::new(disk.clone()));
    for prompt in ["good", "bad"] {
        home.keep_shot_labels(prompt, &labels()).unwrap();
    }
    (disk, home)
}

fn cameras((disk, home): &(FaultyDisk, Home), open: Box<Open>) -> Cameras {
    let files: Arc<dyn FileSystem> = Arc::new(disk.clone());
    let recent = Recent::with_files(home.root(), RecentConfig::default(), files);
    cameras_of(home, recent, open)
}

fn cameras_of(home: &Home, recent: Recent, open: Box<Open>) -> Cameras {
    let cameras = Cameras::new(Arc::new(Common {
        recent,
        models: Models::new(home.clone()),
        events: Events::default(),
        model: Mutex::default(),
        home: home.clone(),
        open,
    }));
    cameras.apply(&parse(TWO).unwrap());
    cameras
}

#[track_caller]
fn until(cameras: &Cameras, name: &str, is: impl Fn(&CameraState) -> bool) -> CameraState {
    let view = cameras.get(name).unwrap();
    let begun = Instant::now();
    loop {
        let state = view.state();
        if is(&state) {
            return state;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{state:?}");
        sleep(Duration::from_millis(10));
    }
}

/// Waits until a camera names pictures that it has not seen yet.
#[track_caller]
fn goes_on(cameras: &Cameras, name: &str) {
    let before = until(cameras, name, |_| true).looked_at;
    until(cameras, name, |state| {
        state.looked_at > before + 1
            && state.state == Phase::Live
            && state.error.is_none()
            && state.regions[0].label.is_some()
    });
}

#[test]
fn a_panic_in_one_camera_is_told_and_it_is_opened_again_while_the_other_goes_on() {
    let opened = AtomicUsize::new(0);
    let cameras = cameras(
        &home(),
        Box::new(move |config| {
            let nth = opened.fetch_add(usize::from(config.name == "bad"), Ordering::Relaxed);
            assert!(config.name != "bad" || nth > 0, "a fault that was put here");
            config.open()
        }),
    );
    let bad = until(&cameras, "bad", |state| state.state == Phase::Failed);
    let error = bad.error.unwrap();
    assert!(
        error.contains("has a fault") && error.contains("trying again in 1 s"),
        "{error}"
    );
    goes_on(&cameras, "good");
    goes_on(&cameras, "bad");
    cameras.stop();
}

#[test]
fn a_prompt_that_is_damaged_is_told_in_its_region_and_the_other_camera_goes_on() {
    let (disk, home) = home();
    let prompts = home.root().join("prompts");
    disk.create_dir(&prompts, Access::Usual).unwrap();
    disk.write_synced(
        &prompts.join("bad.rlp"),
        b"RLP of another world",
        Access::Owner,
    )
    .unwrap();
    let cameras = cameras(&(disk.clone(), home), Box::new(CameraConfig::open));
    let bad = until(&cameras, "bad", |state| {
        state.state == Phase::Live && state.regions[0].error.is_some()
    });
    assert!(
        bad.regions[0].error.as_ref().unwrap().contains("bad.rlp"),
        "{bad:?}"
    );
    assert!(bad.regions[0].label.is_none());
    goes_on(&cameras, "good");
    // It is still seen, and names pictures once the file is gone.
    disk.remove_file(&prompts.join("bad.rlp")).unwrap();
    cameras.renew_those_of("bad");
    goes_on(&cameras, "bad");
    cameras.stop();
}

#[test]
fn a_full_disk_is_told_both_cameras_go_on_and_what_was_confirmed_is_there() {
    let (disk, home) = home();
    let shots = Shots::new(home.clone(), Events::default());
    let confirmed = shots.add("good", "mug", b"before").unwrap();
    disk.count_from_here();
    disk.fault_at(1, Fault::FailFromThere);
    let cameras = cameras(&(disk.clone(), home.clone()), Box::new(CameraConfig::open));
    for name in ["good", "bad"] {
        let told = until(&cameras, name, |state| state.regions[0].error.is_some());
        let error = told.regions[0].error.clone().unwrap();
        assert!(error.contains("cannot be kept"), "{error}");
        goes_on(&cameras, name);
    }
    let refused = shots.add("good", "mug", b"refused");
    assert!(matches!(refused, Err(ShotsError::Store(_))), "{refused:?}");
    disk.heal();
    let next = shots.add("good", "fish", b"after").unwrap();
    let ids: Vec<String> = (shots.all("good").unwrap().into_iter())
        .map(|(id, _)| id)
        .collect();
    assert_eq!(ids, [confirmed.id, next.id]);
    for prompt in ["good", "bad"] {
        cameras.renew_those_of(prompt);
        until(&cameras, prompt, |state| state.regions[0].error.is_none());
    }
    cameras.stop();
}

#[test]
fn a_generation_of_another_program_is_told_although_the_page_has_just_changed_the_prompt() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    let model = Model::embedded().unwrap();
    let change = Delta::init(Tuning::Rlp, 4, model.text.width(), 1, 0).unwrap();
    let fingerprint = model.fingerprint.0;
    let prompt = Prompt::new(
        &model.name,
        fingerprint,
        Template::default(),
        labels().into(),
        change,
    );
    home.save("good", &prompt).unwrap();
    let recent = Recent::new(home.root(), RecentConfig::default());
    let cameras = cameras_of(&home, recent, Box::new(CameraConfig::open));
    goes_on(&cameras, "good");
    let mut told = cameras.common.events.listen();
    // What the page does, and another program before the camera has looked.
    let page = home.save("good", &prompt).unwrap().sequence;
    let other = home.save("good", &prompt).unwrap().sequence;
    cameras.common.events.send(Event::Prompt(PromptChange {
        prompt: "good".into(),
        what: PromptAct::Accepted,
        generation: Some(page),
    }));
    cameras.renew_those_of("good");
    until(&cameras, "good", |state| {
        state.regions[0].generation == Some(other)
    });
    cameras.stop();
    let mut all = Vec::new();
    while let Ok(event) = told.try_recv() {
        if let Event::Prompt(change) = &*event {
            all.push((change.what, change.generation));
        }
    }
    assert!(all.contains(&(PromptAct::Replaced, Some(other))), "{all:?}");
}

/// Each of the two took two locks, in another order: the page's next look at a camera that was changed was the last.
#[test]
fn cameras_are_listed_while_they_are_changed() {
    let cameras = cameras(&home(), Box::new(CameraConfig::open));
    let other = parse(&TWO.replace("50ms", "60ms")).unwrap();
    let configs = [parse(TWO).unwrap(), other];
    let (done, over) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let changed = AtomicUsize::new(0);
        std::thread::scope(|threads| {
            for _ in 0..3 {
                threads.spawn(|| {
                    while changed.load(Ordering::Relaxed) < 20 {
                        assert!(cameras.all().len() <= 2);
                        sleep(Duration::from_millis(1));
                    }
                });
            }
            for nth in 0..20 {
                cameras.apply(&configs[nth % 2]);
                changed.store(nth + 1, Ordering::Relaxed);
            }
        });
        cameras.stop();
        done.send(()).unwrap();
    });
    over.recv_timeout(Duration::from_secs(120)).unwrap();
}
