use super::*;
use crate::prompt::Delta;

#[test]
fn unknown_is_what_lies_below_the_threshold_that_is_in_force() {
    let answer = |unknown| Answer::for_test(&[0.1, 0.6, 0.3], 0.4, unknown);
    let found = answer(Unknown::Never);
    assert_eq!((found.best().class, found.best().probability), (1, 0.6));
    let ranking = found.ranking();
    let ranking = ranking
        .iter()
        .map(|scored| (scored.label, scored.probability));
    assert_eq!(
        ranking.collect::<Vec<_>>(),
        [("1", 0.6), ("2", 0.3), ("0", 0.1)]
    );
    for (unknown, expected) in [
        (Unknown::Never, false),
        (Unknown::BelowProbability(0.0), false),
        (Unknown::BelowProbability(0.7), true),
        (Unknown::BelowSimilarity(0.3), false),
        (Unknown::BelowSimilarity(0.5), true),
    ] {
        assert_eq!(answer(unknown).is_unknown(), expected, "{unknown:?}");
        assert_eq!(answer(unknown).label().is_none(), expected, "{unknown:?}");
    }
}

#[test]
fn a_label_that_is_never_told_is_answered_as_unknown() {
    let mut answer = Answer::for_test(&[0.2, 0.8], 0.9, Unknown::Never);
    answer.labels = ["mug", "!empty shelf"]
        .map(|name| Label::new(name, None).unwrap())
        .into();
    assert_eq!((answer.label(), answer.is_unknown()), (None, true));
    answer.probabilities = vec![0.7, 0.3];
    assert_eq!(answer.label(), Some("mug"));
}

/// Labels that were not shown when a prompt learnt without labels were refused when they came: the floor is one of others' pictures.
#[test]
fn a_floor_of_similarity_says_nothing_of_labels_that_were_not_trained_on() {
    let mut answer = Answer::for_test(&[0.2, 0.8], 0.3, Unknown::BelowSimilarity(0.5));
    assert!(answer.is_unknown());
    answer.new = [1].into();
    assert_eq!(answer.label(), Some("1"));
    answer.probabilities = vec![0.7, 0.3];
    assert!(answer.is_unknown());
}

#[test]
fn a_prompt_of_another_model_or_of_another_shape_is_refused() {
    let model = Model::embedded().unwrap();
    let mut prompt = crate::prompt::record::tests::record();
    let refused = |prompt: &Prompt| Classifier::with_prompt(&model, prompt).err().unwrap();
    assert!(matches!(
        refused(&prompt),
        ClassifierError::OtherModel { .. }
    ));
    prompt.model_fingerprint = model.fingerprint.0;
    prompt.delta = Delta::Full(Array2::zeros((3, 5)));
    assert!(matches!(
        refused(&prompt),
        ClassifierError::ChangeShape { .. }
    ));
}

#[test]
fn a_prompt_without_a_change_answers_as_the_plain_template_does() {
    let model = Model::embedded().unwrap();
    let mut prompt = crate::prompt::record::tests::record();
    let (words, width) = (4, model.text.width());
    prompt.model_fingerprint = model.fingerprint.0;
    prompt.delta = Delta::Full(Array2::zeros((words, width)));
    let picture = RgbImage::from_fn(90, 70, |x, y| image::Rgb([x as u8, y as u8, 7]));
    let plain = Classifier::zero_shot(&model, &prompt.template, &prompt.labels).unwrap();
    let with = Classifier::with_prompt(&model, &prompt).unwrap();
    assert_eq!(with.texts(), plain.texts());
    assert_eq!(with.unknown(), Unknown::BelowSimilarity(0.0));
    let (a, b) = (
        plain.classify(&picture).unwrap(),
        with.classify(&picture).unwrap(),
    );
    assert_eq!(
        (a.best().class, a.similarity),
        (b.best().class, b.similarity)
    );
    assert_ne!(a.probabilities, b.probabilities);
    assert_eq!(with.uncalibrated().classify(&picture).unwrap(), a);
    // With other labels the calibration has nothing to say.
    let others = &prompt.labels[..3];
    let fewer = Classifier::with_prompt_for(&model, &prompt, others).unwrap();
    assert_eq!(fewer.unknown(), Unknown::Never);
    assert_eq!(fewer.class_of("bolt"), Some(2));
    let none = Classifier::zero_shot(&model, &prompt.template, &[]);
    assert!(matches!(none, Err(ClassifierError::NoLabels)));
}

#[test]
fn labels_that_a_prompt_was_not_trained_on_are_read_half_in_the_plain_template() {
    let model = Model::embedded().unwrap();
    let mut prompt = crate::prompt::record::tests::record();
    prompt.model_fingerprint = model.fingerprint.0;
    let words = model
        .layout(&prompt.template, &prompt.labels)
        .unwrap()
        .context
        .len();
    let mut rng = crate::rng::Rng::new(3);
    let shape = (words, model.text.width());
    prompt.delta = Delta::Full(Array2::from_shape_simple_fn(shape, || 0.05 * rng.normal()));
    prompt.prototypes = None;
    let lamp = Label::new("lamp", None).unwrap();
    let labels = [prompt.labels[1].clone(), lamp, prompt.labels[0].clone()];
    let own = Classifier::with_prompt(&model, &prompt).unwrap();
    let plain = Classifier::zero_shot(&model, &prompt.template, &labels).unwrap();
    let layout = model.layout(&prompt.template, &labels).unwrap();
    let tuned = text_features(&model.text, &layout, Some(&prompt.delta)).unwrap();
    let mixed = Classifier::with_prompt_for(&model, &prompt, &labels).unwrap();

    let near = |a: ArrayView1<f32>, b: ArrayView1<f32>| {
        let away = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        assert!(away.fold(0.0, f32::max) < 1e-5);
    };
    near(mixed.texts().row(0), own.texts().row(1));
    near(mixed.texts().row(2), own.texts().row(0));
    let halfway = &tuned.row(1) + &plain.texts().row(1);
    let length = halfway.dot(&halfway).sqrt();
    assert!(length < 1.99, "the change must change something");
    near(mixed.texts().row(1), (halfway / length).view());
}
