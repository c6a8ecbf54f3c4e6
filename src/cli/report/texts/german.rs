//! German, with the words of the page of `serve`: a label is a name there.

use super::super::super::eval::Protocol;
use super::{
    Calibration, Card, Classes, Columns, Confusion, FewShot, Loss, Mistakes, Spectrum, Texts, Tiles,
};

pub const GERMAN: Texts = Texts {
    language: "de",
    point: ",",
    protocol: |protocol| match protocol {
        Protocol::Holdout => "eigene Bilder",
        Protocol::BaseToNew => "bekannte und neue Namen",
        Protocol::FewShot => "mit immer mehr Bildern",
        Protocol::Cross => "andere Datensätze",
    },
    part: |name| match name {
        "test" => "Test",
        "base" => "bekannte Namen",
        name => name,
    },
    title: |protocol, source| format!("edge-rlp: {source}, {protocol}"),
    heading: |protocol| format!("Auswertung: {protocol}"),
    about: |of| {
        format!(
            "{} · Modell {} · Vorlage \u{201e}{}\u{201c} · Bilder zum Prüfen: {} · Ziehungen: {}",
            of.source, of.model, of.template, of.pictures, of.seeds
        )
    },
    skipped: |count| format!("; nicht lesbare Bilder: {count}"),
    tiles: Tiles {
        accuracy: |of, low, high| {
            format!("richtig benannt mit {of}, zu 95 % zwischen {low} und {high}")
        },
        zero_shot: "ohne Training (zero-shot), mit der bloßen Vorlage",
        new: "bei neuen Namen",
        harmonic_mean: "harmonisches Mittel aus bekannten und neuen",
        calibration_error: "erwarteter Fehler der Kalibrierung",
        latency: "je Bild, gelesen und benannt auf einem Kern",
    },
    methods: Card {
        title: "Verfahren",
        text: "Alle an denselben Merkmalen derselben Bilder; die Bytes sind die der Zahlen, die ein Verfahren behält.",
    },
    columns: Columns {
        method: "Verfahren",
        base: "bekannte",
        new: "neue",
        harmonic_mean: "harmonisch",
        targets: "Ziele",
        source: "Quelle",
        accuracy: "richtig",
        interval: "95-%-Intervall",
        deviation: "± Ziehungen",
        calibration_error: "Kalibr.-Fehler",
        calibration_together: "alle Ziehungen",
        calibration_by_chance: "durch Zufall",
        unknown_auroc: "AUROC unbekannt",
        known_refused: "bekannte abgelehnt",
        unknown_refused: "unbekannte abgelehnt",
        numbers: "Zahlen",
        bytes: "Bytes",
        seconds: "Sekunden",
        from_to: |low, high| format!("{low} bis {high}"),
    },
    confusion: Confusion {
        title: "Was wofür gehalten wird",
        text: |method, pictures, part| {
            format!(
                "{method}, {pictures} Bilder ({part}): Zeilen sagen, was ein Bild zeigt, Spalten, wie es benannt wurde."
            )
        },
        chart: "Verwechslungen: Zeilen sagen, was ein Bild zeigt, Spalten, wie es benannt wurde",
        cell: |right, named, count| format!("{right}, benannt {named}: {count}"),
    },
    few_shot: FewShot {
        title: "Richtige Antworten nach Bildern",
        text: "Mittel der Ziehungen.",
        chart: "Richtige Antworten nach Bildern je Name",
        across: "Bilder je Name",
        up: "richtig",
    },
    calibration: Calibration {
        title: "Wie sicher, und wie richtig",
        text: |error, zero_shot| {
            format!(
                "Auf der gestrichelten Linie ist es so oft richtig, wie es sicher ist; ein größerer Punkt steht für mehr \
                 Bilder. Kalibrierungsfehler {error} (zero-shot {zero_shot})."
            )
        },
        chart: "Zuverlässigkeit: wie oft richtig, nach Sicherheit",
        across: "Sicherheit",
        up: "richtig",
        bin: |method, pictures, confidence, accuracy| {
            format!("{method}: Bilder: {pictures}, sicher {confidence}, richtig {accuracy}")
        },
    },
    classes: Classes {
        title: "Name für Name",
        text: "Wie viele Bilder eines Namens erkannt wurden (Trefferquote), die schlechtesten zuerst.",
        worst: |shown, all| {
            format!(
                "Wie viele Bilder eines Namens erkannt wurden (Trefferquote), die {shown} schlechtesten von {all} Namen."
            )
        },
        chart: "Trefferquote jedes Namens",
        numbers: "Genauigkeit und Trefferquote in Zahlen",
        label: "Name",
        precision: "Genauigkeit",
        recall: "Trefferquote",
        f1: "F1",
        pictures: "Bilder",
    },
    loss: Loss {
        title: "Training",
        text: |seed, seconds| {
            format!("Kreuzentropie an den gelernten Bildern, Ziehung {seed}; {seconds} s.")
        },
        chart: "Verlust nach Schritten des Trainings",
        series: "Kreuzentropie",
        across: "Schritt",
        up: "Verlust",
    },
    spectrum: Spectrum {
        title: "Spektrum des Prompts",
        text: |template, prompt, change| {
            format!(
                "Singulärwerte des Kontexts. Informationsdichte, der Anteil des ersten: Vorlage {template}, Prompt {prompt}, \
                 die gelernte Änderung allein {change}."
            )
        },
        chart: "Singulärwerte des Kontexts",
        template: "Vorlage",
        value: |index| format!("Wert {index}"),
    },
    mistakes: Mistakes {
        title: "Die größten Fehler",
        none: "Es gibt keine.",
        text: |wrong, all| {
            format!(
                "Falsch benannt: {wrong} von {all} Bildern; hier die, bei denen es am sichersten war."
            )
        },
        named: |right, named, confidence| format!("{right}, benannt {named} ({confidence})"),
    },
};
