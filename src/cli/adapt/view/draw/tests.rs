//! What is on the screen, without a terminal.

use super::super::state::{Action, Verdict};
use super::*;
use crate::frames::demo;
use ndarray::Array1;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::time::Duration;

fn state(labels: usize) -> State {
    let names = [
        "mug",
        "fish",
        "自転車",
        "a label with a name that is far too long",
    ];
    let name = |index: usize| match names.get(index) {
        Some(name) => (*name).to_owned(),
        None => format!("label {index}"),
    };
    State::new((0..labels).map(|index| (name(index), 3 * index)))
}

fn snapshot() -> Snapshot {
    let frame: std::sync::Arc<_> = demo::stream(vec![0], 1).next().unwrap().into();
    Snapshot {
        whole: frame.clone(),
        region: None,
        frame,
        feature: Array1::zeros(4),
        guess: (1, 0.931),
        sharpness: 10.0,
    }
}

/// The rows of the screen.
fn screen(state: &State, snapshot: Option<&Snapshot>, (width, height): (u16, u16)) -> Vec<String> {
    let hints = Hints {
        sharpness: 0.5,
        blurred: false,
        closest: Some((0.9987, 0)),
        duplicate: true,
    };
    let look = Look {
        prompt: "shelf",
        source: "camera demo:clear",
        in_use: "zero-shot",
        snapshot,
        picture: snapshot.map(|snapshot| &snapshot.whole.image),
        hints: &hints,
        depth: Depth::True,
        pixels: None,
    };
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state, &look)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y: u16| -> String {
        let symbol = |x: u16| buffer.cell((x, y)).unwrap().symbol();
        (0..width).map(symbol).collect()
    };
    (0..height).map(row).collect()
}

fn verdict(classes: usize, wrong: bool) -> Verdict {
    let mut confusion = vec![vec![0; classes]; classes];
    for (class, row) in confusion.iter_mut().enumerate() {
        row[class] = 4;
    }
    if wrong {
        confusion[1] = vec![0; classes];
        confusion[1][0] = 3;
        confusion[1][1] = 1;
    }
    Verdict {
        zero_shot_accuracy: 0.5,
        adapted_accuracy: 0.875,
        holdout_pictures: 4 * classes,
        accepted: true,
        confusion,
    }
}

#[test]
fn picture_labels_counts_guess_and_hints_are_all_there_on_80_by_24() {
    let (state, snapshot) = (state(12), snapshot());
    let rows = screen(&state, Some(&snapshot), (80, 24));
    let all = rows.join("\n");
    let title = " 198 shots for prompt shelf from camera demo:clear, drawn: ";
    assert!(rows[0].starts_with(title), "{all}");
    assert!(all.contains("▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀▀"), "{all}");
    assert!(all.contains("guess fish 93.1 %  (zero-shot)"), "{all}");
    assert!(all.contains("like mug 0.999: nearly the same"), "{all}");
    assert!(
        rows.iter()
            .any(|row| row.contains("▸1 mug") && row.contains(" 0")),
        "{all}"
    );
    assert!(
        rows.iter()
            .any(|row| row.contains("4 a label with…") && row.contains(" 9 ")),
        "{all}"
    );
    assert!(rows.iter().any(|row| row.contains("c label 10")), "{all}");
    assert!(rows[23].contains("Enter train"), "{all}");
}

#[test]
fn every_size_is_drawn_without_a_fault() {
    let snapshot = snapshot();
    let mut all = [state(2), state(60), state(60), state(3)];
    all[1].stage = Stage::Verdict(verdict(60, true));
    all[2].stage = Stage::Training(Progress::default());
    all[3].help = true;
    for state in &all {
        for size in [
            (1, 1),
            (24, 8),
            (25, 9),
            (59, 12),
            (60, 8),
            (80, 24),
            (300, 90),
        ] {
            screen(state, Some(&snapshot), size);
            screen(state, None, size);
        }
    }
    let rows = screen(&all[0], None, (20, 8)).join(" ");
    assert!(rows.contains("make the terminal"), "{rows}");
}

#[test]
fn more_labels_than_rows_scroll_with_the_marked_one_in_sight() {
    let mut state = state(60);
    for _ in 0..60 {
        let key = KeyEvent::new(KeyCode::Down, KeyModifiers::NONE);
        assert_eq!(state.key(key, Duration::ZERO), Action::Nothing);
        let marked = format!("▸{:1} ", state.rows[state.selected].key.unwrap_or(' '));
        let rows = screen(&state, None, (80, 24)).join("\n");
        assert!(rows.contains(&marked), "{rows}");
        assert!(rows.contains("of 60 labels"), "{rows}");
    }
}

#[test]
fn a_verdict_is_a_table_where_it_fits_and_a_list_of_mistakes_where_not() {
    let mut few = state(4);
    few.stage = Stage::Verdict(verdict(4, true));
    let rows = screen(&few, None, (80, 24));
    let all = rows.join("\n");
    assert!(all.contains("accuracy on 16 held-out shots"), "{all}");
    assert!(all.contains("before 50.0 %   after 87.5 %"), "{all}");
    assert!(all.contains("2 fish         3 1 · ·"), "{all}");
    assert!(all.contains("weakest: fish"), "{all}");

    let mut many = state(30);
    many.stage = Stage::Verdict(verdict(30, true));
    let all = screen(&many, None, (80, 24)).join("\n");
    assert!(all.contains("3 x fish taken for mug"), "{all}");
    many.stage = Stage::Verdict(verdict(30, false));
    let all = screen(&many, None, (80, 24)).join("\n");
    assert!(all.contains("all of them are named right"), "{all}");
}

#[test]
fn training_shows_how_far_it_is_beside_the_living_picture() {
    let (mut state, snapshot) = (state(3), snapshot());
    state.stage = Stage::Training(Progress {
        what: "training",
        done: 50,
        of: 200,
        detail: "accuracy on its own shots 90.0 %".into(),
    });
    let all = screen(&state, Some(&snapshot), (80, 24)).join("\n");
    assert!(
        all.contains("training 50/200") && all.contains("own shots 90.0 %"),
        "{all}"
    );
    assert!(
        all.contains("▀▀▀▀▀▀▀▀") && all.contains("Esc cancels"),
        "{all}"
    );
}

#[test]
fn names_are_cut_by_columns_whatever_the_script() {
    assert_eq!(cut("mug", 5), "mug  ");
    assert_eq!(cut("mugs and cups", 5), "mugs…");
    assert_eq!(cut("自転車自転車", 5), "自転…");
    assert_eq!(cut("自転車自転車", 6), "自転… ");
}
