use super::*;
use crate::fleet::{Password, SigningKey};
use crate::prompt::{Delta, Label, Template, Tuning};
use crate::store::faults::{Fault, FaultyDisk, Survival};
use std::sync::LazyLock;

static MODEL: LazyLock<Arc<Model>> = LazyLock::new(|| Arc::new(Model::embedded().unwrap()));
static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate(&Password::None).unwrap().0);

const TOPIC: &str = "edge-rlp-fleet/prompt/shops/north/shelf";
const CANARY: &str = "edge-rlp-fleet/canary/shops/north/shelf";

/// A prompt that changes nothing, for a mug and a key, which are described by these words.
fn prompt(words: [&str; 2], seed: u64) -> Prompt {
    let labels = ["mug", "key"].into_iter().zip(words);
    let labels = labels.map(|(name, words)| Label::new(name, Some(words)).unwrap());
    let change = Delta::init(Tuning::Rlp, 4, MODEL.text.width(), 1, seed).unwrap();
    let fingerprint = MODEL.fingerprint.0;
    let mut prompt = Prompt::new(
        &MODEL.name,
        fingerprint,
        Template::default(),
        labels.collect(),
        change,
    );
    prompt.seed = seed;
    prompt
}

fn right(seed: u64) -> Prompt {
    prompt(["mug", "key"], seed)
}

fn wrong(seed: u64) -> Prompt {
    prompt(["key", "mug"], seed)
}

/// Pictures that the plain template names without a mistake: each is what the text of its label says.
fn own() -> OwnPictures {
    let labels = right(0).labels;
    let classifier = Classifier::zero_shot(&MODEL, &Template::default(), &labels).unwrap();
    OwnPictures::new(labels, vec![0, 1], classifier.texts().to_owned())
}

fn notice(kind: Kind, generation: u64, prompt: Option<Prompt>) -> Notice {
    let group = "shops/north".parse().unwrap();
    Notice {
        restores: (kind == Kind::Rollback).then_some(1),
        ..Notice::new(kind, group, "shelf", generation, prompt).unwrap()
    }
}

fn published(generation: u64, prompt: Prompt) -> Vec<u8> {
    notice(Kind::Publish, generation, Some(prompt))
        .sign(&KEY)
        .unwrap()
}

fn follower(home: Home) -> Follower {
    let subscription = Subscription {
        group: "shops/north".parse().unwrap(),
        name: "shop-17".into(),
        trusted: vec![KEY.public().clone()],
        regions: vec![("shelf".into(), "default".into())],
    };
    Follower::new(home, subscription)
}

fn hear(follower: &Follower, bytes: &[u8], pictures: Option<OwnPictures>) -> Outcome {
    hear_at(follower, TOPIC, bytes, pictures)
}

fn hear_at(
    follower: &Follower,
    topic: &str,
    bytes: &[u8],
    pictures: Option<OwnPictures>,
) -> Outcome {
    let tools = Tools {
        model: &|prompt, _| match prompt.model_fingerprint == MODEL.fingerprint.0 {
            true => Ok(Arc::clone(&MODEL)),
            false if prompt.model_name == "away" => Err(NoModel::NotYet("nobody answers".into())),
            false => Err(NoModel::Others("default (12345678)".into())),
        },
        pictures: &|_, _| Ok(pictures.clone()),
    };
    follower.hear(topic, bytes, &tools)
}

fn state(outcome: Outcome) -> (String, String) {
    match outcome {
        Outcome::Followed(taken) => (taken.state, taken.said),
        other => panic!("{other:?}"),
    }
}

fn in_use(home: &Home) -> Option<u64> {
    home.load("default").ok().map(|loaded| loaded.record.seed)
}

#[test]
fn a_prompt_that_is_worse_on_own_pictures_is_refused_and_one_that_is_as_good_goes_live() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    home.save("default", &right(1)).unwrap();
    let follower = follower(home.clone());
    let (state_of, said) = state(hear(&follower, &published(1, wrong(2)), Some(own())));
    assert_eq!(
        (&*state_of, &*said),
        ("refused", "refused: 100 -> 0 % on 2 own pictures")
    );
    assert_eq!(in_use(&home), Some(1));
    assert!(matches!(
        hear(&follower, &published(1, wrong(4)), Some(own())),
        Outcome::Refused(Refusal::Conflict { .. })
    ));
    let (state_of, said) = state(hear(&follower, &published(2, right(3)), Some(own())));
    assert_eq!(
        (&*state_of, &*said),
        ("accepted", "accepted, 100 -> 100 % on 2 own pictures")
    );
    assert_eq!(in_use(&home), Some(3));
    let report = follower.report(&|_| None);
    assert_eq!(
        (report.regions[0].generation, report.regions[0].after),
        (2, Some(1.0))
    );
    assert_eq!(Report::parse(&report.encode()), Some(report));
}

#[test]
fn a_model_that_could_not_be_fetched_yet_is_tried_again_and_the_notice_stays_new() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    let follower = follower(home.clone());
    let mut away = right(1);
    (away.model_name, away.model_fingerprint) = ("away".into(), [7; 32]);
    let notice = published(1, away.clone());
    for _ in 0..2 {
        let outcome = hear(&follower, &notice, None);
        let Outcome::Trouble(trouble) = outcome else {
            panic!("{outcome:?}")
        };
        assert!(
            trouble
                .to_string()
                .contains("away could not be fetched: nobody answers")
        );
    }
    assert_eq!(in_use(&home), None);
    away.model_name = "other".into();
    let outcome = hear(&follower, &published(2, away), None);
    assert!(
        matches!(outcome, Outcome::Refused(Refusal::OtherModel { .. })),
        "{outcome:?}"
    );
}

#[test]
fn a_prompt_of_the_fleet_is_known_again_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    let follower = follower(home.clone());
    assert!(!is_of_fleet(&home, &right(1)));
    state(hear(&follower, &published(1, right(1)), None));
    assert!(is_of_fleet(&home, &home.load("default").unwrap().record));
    assert!(!is_of_fleet(&home, &right(2)));
}

#[test]
fn without_own_pictures_a_prompt_is_taken_and_told_to_be_unjudged() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    let follower = follower(home.clone());
    let (state_of, said) = state(hear(&follower, &published(1, wrong(2)), None));
    assert!(
        state_of == "unjudged" && said.contains("no pictures of its own"),
        "{said}"
    );
    assert_eq!(in_use(&home), Some(2));
}

#[test]
fn a_candidate_that_lacks_a_label_of_own_pictures_is_wrong_on_them_and_told_so() {
    let mut candidate = right(2);
    candidate.labels[1] = Label::new("fish", None).unwrap();
    let found = own()
        .judge(&MODEL, Some((&right(1), Origin::Own)), &candidate)
        .unwrap();
    assert_eq!((found.before, found.after), (1.0, 0.5));
    assert!(!found.accepts() && found.in_words().ends_with("it does not know key"));
}

#[test]
fn a_prompt_that_was_trained_on_the_pictures_that_judge_is_worth_what_it_was_found_to_be_on_unseen_ones()
 {
    let mut trained = right(1);
    (trained.metrics.holdout_images, trained.metrics.images) = (2, 2);
    trained.metrics.adapted_accuracy = 0.75;
    let before = |origin| {
        own()
            .judge(&MODEL, Some((&trained, origin)), &right(2))
            .unwrap()
            .before
    };
    assert_eq!((before(Origin::Own), before(Origin::Fleet)), (0.75, 1.0));
}

#[test]
fn an_old_notice_is_an_old_one_after_a_restart_too_and_a_rollback_has_a_number_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    let box_of = || follower(Home::new(folder.path()));
    let (first, second) = (published(1, right(11)), published(2, right(12)));
    state(hear(&box_of(), &first, None));
    state(hear(&box_of(), &second, None));
    assert!(matches!(hear(&box_of(), &second, None), Outcome::Known));
    assert!(matches!(
        hear(&box_of(), &first, None),
        Outcome::Refused(Refusal::Older {
            offered: 1,
            seen: 2
        })
    ));
    assert_eq!(in_use(&home), Some(12));
    // It is not judged: what is in use came from the same owner.
    let back = notice(Kind::Rollback, 3, Some(wrong(11)))
        .sign(&KEY)
        .unwrap();
    let (state_of, said) = state(hear(&box_of(), &back, Some(own())));
    assert_eq!(state_of, "restored");
    assert!(
        said.contains("generation 1 was is in use again, 100 -> 0 %"),
        "{said}"
    );
    assert_eq!(in_use(&home), Some(11));
    assert!(matches!(
        hear(&box_of(), &second, None),
        Outcome::Refused(Refusal::Older { .. })
    ));
}

#[test]
fn a_box_with_a_prompt_of_its_own_judges_a_rollback_as_anything_else() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    home.save("default", &right(1)).unwrap();
    let back = notice(Kind::Rollback, 3, Some(wrong(11)))
        .sign(&KEY)
        .unwrap();
    assert_eq!(
        state(hear(&follower(home.clone()), &back, Some(own()))).0,
        "refused"
    );
    assert_eq!(in_use(&home), Some(1));
}

#[test]
fn what_is_withdrawn_gives_way_to_what_the_box_had_before() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    home.save("default", &right(1)).unwrap();
    let follower = follower(home.clone());
    state(hear(&follower, &published(1, right(11)), None));
    state(hear(&follower, &published(2, right(12)), None));
    let gone = notice(Kind::Withdraw, 3, None).sign(&KEY).unwrap();
    let (state_of, said) = state(hear(&follower, &gone, None));
    assert!(
        state_of == "withdrawn" && said.contains("own prompt of generation 1"),
        "{said}"
    );
    assert_eq!(in_use(&home), Some(1));
    let again = notice(Kind::Withdraw, 4, None).sign(&KEY).unwrap();
    assert!(
        state(hear(&follower, &again, None))
            .1
            .contains("prompt of its own")
    );
    assert_eq!(in_use(&home), Some(1));
}

#[test]
fn some_boxes_try_it_first_and_all_others_wait_for_the_word() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    let follower = follower(home.clone());
    let mut some = notice(Kind::Publish, 1, Some(right(11)));
    // The box is among 40 % of all, and not among 5 %: whoever changes the hash changes which boxes are first.
    let first = crate::fleet::is_canary("shop-17", "40%".parse().unwrap());
    some.canary = if first { "0.01%" } else { "40%" }.parse().unwrap();
    assert!(matches!(
        hear_at(&follower, CANARY, &some.sign(&KEY).unwrap(), None),
        Outcome::Waits(_)
    ));
    assert_eq!(in_use(&home), None);
    // Moved to the topic for all by somebody, it still is for some.
    assert!(matches!(
        hear(&follower, &some.sign(&KEY).unwrap(), None),
        Outcome::Waits(_)
    ));
    state(hear(&follower, &published(2, right(11)), None));
    assert_eq!(in_use(&home), Some(11));
    // The same prompt under another number changes nothing.
    let generations = home.history("default").unwrap().len();
    let (state_of, said) = state(hear(&follower, &published(3, right(11)), Some(own())));
    assert!(
        state_of == "unjudged" && said.contains("in use already"),
        "{state_of} {said}"
    );
    assert_eq!(home.history("default").unwrap().len(), generations);
}

#[test]
fn what_is_for_another_model_or_region_or_comes_from_a_stranger_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    let follower = follower(home.clone());
    let refused = |bytes: &[u8]| match hear(&follower, bytes, None) {
        Outcome::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    };
    let mut other = right(1);
    other.model_fingerprint = [7; 32];
    let refusal = refused(&published(1, other));
    assert!(
        refusal
            .to_string()
            .contains("this box has default (12345678)"),
        "{refusal}"
    );
    let mut unfit = right(1);
    unfit.delta = Delta::init(Tuning::Rlp, 3, MODEL.text.width(), 1, 0).unwrap();
    assert!(matches!(
        refused(&published(1, unfit)),
        Refusal::Unfit { .. }
    ));
    let group = "shops/north".parse().unwrap();
    let door = Notice::new(Kind::Publish, group, "door", 1, Some(right(1))).unwrap();
    assert!(matches!(
        refused(&door.sign(&KEY).unwrap()),
        Refusal::OtherRegion { .. }
    ));
    let (stranger, _) = SigningKey::generate(&Password::None).unwrap();
    let strange = notice(Kind::Publish, 1, Some(right(1)))
        .sign(&stranger)
        .unwrap();
    assert!(matches!(refused(&strange), Refusal::UnknownKey { .. }));
    assert!(matches!(hear(&follower, b"", None), Outcome::Known));
    assert!(matches!(
        hear_at(&follower, "elsewhere", b"x", None),
        Outcome::Known
    ));
    assert_eq!(in_use(&home), None);
    assert_eq!(follower.record("shelf").unwrap(), Record::default());
}

#[test]
fn a_damaged_memory_stops_the_region_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    let follower = follower(home.clone());
    state(hear(&follower, &published(5, right(11)), None));
    let name = follower.record_name("shelf");
    home.keep_fleet_file(&name, b"{").unwrap();
    let outcome = hear(&follower, &published(4, right(12)), None);
    assert!(
        matches!(outcome, Outcome::Trouble(Trouble::Record { .. })),
        "{outcome:?}"
    );
    assert_eq!(in_use(&home), Some(11));
    assert!(follower.report(&|_| None).regions[0].trouble.is_some());
}

#[test]
fn whatever_fails_or_wherever_the_power_is_cut_the_prompt_in_use_is_the_old_or_the_new_one() {
    let prepared = || {
        let disk = FaultyDisk::default();
        let home = Home::with_files("/home", Arc::new(disk.clone()));
        home.save("default", &right(1)).unwrap();
        disk.count_from_here();
        (disk, home)
    };
    let bytes = published(1, right(2));
    let (disk, home) = prepared();
    state(hear(&follower(home), &bytes, None));
    let (operations, survivals) = (disk.operations(), Survival::all());
    let cuts =
        [survivals[0], survivals[survivals.len() - 1]].map(|survival| (Fault::PowerCut, survival));
    let failures = [Fault::FailOnce, Fault::FailFromThere].map(|fault| (fault, survivals[0]));
    let mut tried = 0;
    for (fault, survival) in cuts.into_iter().chain(failures) {
        for k in 1..=operations {
            let (disk, home) = prepared();
            disk.fault_at(k, fault);
            let done = matches!(
                hear(&follower(home.clone()), &bytes, None),
                Outcome::Followed(_)
            );
            match fault {
                Fault::PowerCut => disk.restart(survival),
                _ => disk.heal(),
            }
            let found = in_use(&home).expect("a whole prompt");
            assert!(
                found == 2 || (found == 1 && !done),
                "{fault:?} at {k}, {survival:?}"
            );
            // The broker tells it again at the next connection.
            let again = hear(&follower(home.clone()), &bytes, None);
            assert!(
                matches!(again, Outcome::Known | Outcome::Followed(_)),
                "{fault:?} at {k}: {again:?}"
            );
            assert_eq!(in_use(&home), Some(2), "{fault:?} at {k}");
            let record = follower(home.clone()).record("shelf").unwrap();
            assert_eq!(
                (record.generation, record.own),
                (1, Some(1)),
                "{fault:?} at {k}"
            );
            assert!(
                home.history("default")
                    .unwrap()
                    .iter()
                    .all(|generation| generation.prompt.is_ok())
            );
            tried += 1;
        }
    }
    println!("fleet: {tried} failures and power cuts survived");
}
