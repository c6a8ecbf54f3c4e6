//! English.

use super::super::super::eval::Protocol;
use super::{
    Calibration, Card, Classes, Columns, Confusion, FewShot, Loss, Mistakes, Spectrum, Texts, Tiles,
};

pub const ENGLISH: Texts = Texts {
    language: "en",
    point: ".",
    protocol: Protocol::name,
    part: |name| name,
    title: |protocol, source| format!("edge-rlp: {protocol} on {source}"),
    heading: |protocol| format!("Evaluation: {protocol}"),
    about: |of| {
        format!(
            "{} · model {} · template \u{201c}{}\u{201d} · {} test pictures · seeds {}",
            of.source, of.model, of.template, of.pictures, of.seeds
        )
    },
    skipped: |count| format!("; {count} pictures could not be read"),
    tiles: Tiles {
        accuracy: |of, low, high| format!("accuracy of {of}, 95 % interval {low} to {high}"),
        zero_shot: "zero-shot, the plain template",
        new: "on new classes",
        harmonic_mean: "harmonic mean of base and new",
        calibration_error: "expected calibration error",
        latency: "a picture, decoded and encoded on one core",
    },
    methods: Card {
        title: "Methods",
        text: "All on the same features of the same pictures; bytes are those of the numbers a method keeps.",
    },
    columns: Columns {
        method: "method",
        base: "base",
        new: "new",
        harmonic_mean: "harmonic",
        targets: "targets",
        source: "source",
        accuracy: "accuracy",
        interval: "95 % interval",
        deviation: "+- seeds",
        calibration_error: "calib. error",
        calibration_together: "all seeds",
        calibration_by_chance: "by chance",
        unknown_auroc: "unknown AUROC",
        known_refused: "known refused",
        unknown_refused: "unknown refused",
        numbers: "numbers",
        bytes: "bytes",
        seconds: "seconds",
        from_to: |low, high| format!("{low} to {high}"),
    },
    confusion: Confusion {
        title: "What is taken for what",
        text: |method, pictures, part| {
            format!(
                "{method}, {pictures} pictures of \u{201c}{part}\u{201d}: rows are what a picture shows, columns what it was \
                 named."
            )
        },
        chart: "Confusion matrix: rows show what the picture shows, columns what it was named",
        cell: |right, named, count| format!("{right} named {named}: {count}"),
    },
    few_shot: FewShot {
        title: "Accuracy by shots",
        text: "Mean over seeds.",
        chart: "Accuracy by shots a class",
        across: "shots a class",
        up: "accuracy",
    },
    calibration: Calibration {
        title: "How sure it is, and how right",
        text: |error, zero_shot| {
            format!(
                "On the dashed line confidence is accuracy; a larger dot stands for more pictures. Calibration error {error} \
                 (zero-shot {zero_shot})."
            )
        },
        chart: "Reliability diagram: accuracy by confidence",
        across: "confidence",
        up: "accuracy",
        bin: |method, pictures, confidence, accuracy| {
            format!("{method}: {pictures} pictures, confidence {confidence}, accuracy {accuracy}")
        },
    },
    classes: Classes {
        title: "Label by label",
        text: "Recall, the worst first.",
        worst: |shown, all| format!("Recall, the {shown} worst of {all} labels first."),
        chart: "Recall of each label",
        numbers: "Precision and recall in numbers",
        label: "label",
        precision: "precision",
        recall: "recall",
        f1: "F1",
        pictures: "pictures",
    },
    loss: Loss {
        title: "Training",
        text: |seed, seconds| {
            format!("Cross-entropy on the training pictures, seed {seed}; {seconds} s.")
        },
        chart: "Loss by training step",
        series: "cross-entropy",
        across: "step",
        up: "loss",
    },
    spectrum: Spectrum {
        title: "Spectrum of the prompt",
        text: |template, prompt, change| {
            format!(
                "Singular values of the context. Information density, the share of the first: template {template}, prompt \
                 {prompt}, the trained change alone {change}."
            )
        },
        chart: "Singular values of the context",
        template: "template",
        value: |index| format!("value {index}"),
    },
    mistakes: Mistakes {
        title: "Worst mistakes",
        none: "There are none.",
        text: |wrong, all| {
            format!("{wrong} of {all} pictures were named wrong; these with the most confidence.")
        },
        named: |right, named, confidence| format!("{right} named {named} ({confidence})"),
    },
};
