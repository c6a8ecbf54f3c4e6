//! Whether there are pictures enough: how answers get better with pictures of each label, and of which labels more would help.

use super::{Judge, Part};
use crate::adapt::features::FeatureSet;
use crate::adapt::loss::confusion;
use crate::adapt::{AdaptError, Task};
use crate::classifier::softmax_rows;
use crate::rng::Rng;
use ndarray::{Array2, Axis};

/// Pictures of each label that answers are judged at first, and then at twice as many, and so on.
const FIRST: usize = 2;
/// Fewer pictures of a label than this say nothing yet; so many it should have before anything else.
const LEAST: usize = 8;
/// The fewest and the most pictures that are asked for at a time.
const ASKED: (usize, usize) = (4, 16);
/// A share of the pictures of a label that more of them must bring to be worth the trouble.
const WORTH: f32 = 0.02;
/// A label of which a smaller share is named wrong is well known.
const WRONG: f32 = 0.1;
/// Two labels look alike where so large a share of the mistakes of one is the other.
const MOSTLY: f32 = 0.5;

/// Answers by how many pictures they are learnt from, and what to do for each label.
#[derive(Debug, Clone, PartialEq)]
pub struct Enough {
    /// Fewest shots first; each picture was judged by what others taught.
    pub curve: Vec<AtShots>,
    /// What helps most first; each label once, as one or as the other of two that look alike.
    pub advice: Vec<Advice>,
}

/// How right answers are after so many shots of each label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AtShots {
    /// The most of a label that were learnt from; a label that has fewer gave all.
    pub shots: usize,
    /// Accuracy on other pictures, in `0..=1`.
    pub accuracy: f32,
}

/// What to do for a label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Advice {
    /// Its class.
    pub label: usize,
    /// The share of its pictures that the others teach to name right; none if that cannot be told yet.
    pub accuracy: Option<f32>,
    /// What helps.
    pub wanted: Wanted,
}

/// What helps a label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wanted {
    /// More pictures.
    More {
        /// About how many.
        pictures: usize,
        /// By how much more of its pictures should then be named right, as a share; none where there are too few to tell.
        gain: Option<f32>,
    },
    /// Something else than pictures, because it looks like the class `other`.
    Alike {
        /// That class.
        other: usize,
    },
    /// Nothing.
    Plenty,
}

impl Wanted {
    /// In one word: `more`, `alike` or `plenty`.
    pub fn name(self) -> &'static str {
        match self {
            Wanted::More { .. } => "more",
            Wanted::Alike { .. } => "alike",
            Wanted::Plenty => "plenty",
        }
    }
}

/// Whether there are pictures enough, by what they teach each other. What more of a label would bring follows from what half of
/// them bring less: the next doubling is taken to bring as much as the last one. Of Gaussian clouds whose labels overlap, a
/// doubling brought 0.7 to 2 times of that.
///
/// # Errors
/// If the features are not numbers.
pub fn enough(task: &Task, set: &FeatureSet) -> Result<Enough, AdaptError> {
    let judge = Judge::new(task, set)?;
    let parts = judge.parts()?;
    let classes = task.labels.len();
    let named = parts
        .iter()
        .fold(Array2::zeros((classes, classes)), |sum, part| {
            let labels: Vec<usize> = part.pictures.iter().map(|&row| set.labels[row]).collect();
            sum + confusion(part.scores.view(), &labels)
        });
    let losses: Vec<Loss> = (0..classes)
        .map(|class| Loss::of_half(&parts, set, class))
        .collect();
    let mut advice: Vec<Advice> = (0..classes)
        .map(|class| advise(class, &named, &losses[class], set))
        .collect();
    once_each_pair(&mut advice);
    advice.sort_by(|a, b| b.urgency().total_cmp(&a.urgency()));
    Ok(Enough {
        curve: curve(&judge)?,
        advice,
    })
}

fn curve(judge: &Judge) -> Result<Vec<AtShots>, AdaptError> {
    let labels = &judge.set.labels;
    let of = |split: &super::Split, class: usize| {
        let rows = split.train.iter();
        rows.filter(|&&row| labels[row] == class).count()
    };
    let classes = judge.texts.ncols();
    let counts = judge.splits.iter();
    let counts = counts.flat_map(|split| (0..classes).map(|class| of(split, class)));
    let most = counts.max().unwrap_or(0);
    let doubled = std::iter::successors(Some(FIRST), |shots| Some(shots * 2));
    let mut steps: Vec<usize> = doubled.take_while(|&shots| shots < most).collect();
    if most > 0 {
        steps.push(most);
    }
    // Pictures that follow each other are alike: the first of a label would show less than a few of all of it.
    let mixed = |rows: &[usize]| {
        let mut rows = rows.to_vec();
        Rng::new(rows.len() as u64).shuffle(&mut rows);
        rows
    };
    let mut curve = Vec::with_capacity(steps.len());
    for shots in steps {
        if let Some((_, accuracy)) = judge.learnt_from(&mixed, &|_| shots)? {
            curve.push(AtShots { shots, accuracy });
        }
    }
    Ok(curve)
}

/// What a label would lose if it had half of its pictures.
#[derive(Debug, Clone, Copy, Default)]
struct Loss {
    /// How much less probable its name is on its own pictures, on average.
    mean: f32,
    /// The standard error of that.
    error: f32,
    /// Whether it could be told.
    told: bool,
}

impl Loss {
    fn of_half(parts: &[Part], set: &FeatureSet, class: usize) -> Loss {
        let mut differences = Vec::new();
        for part in parts {
            let of_class = |&&row: &&usize| set.labels[row] == class;
            let own: Vec<usize> = part.train.iter().filter(of_class).copied().collect();
            let held: Vec<usize> = part.pictures.iter().filter(of_class).copied().collect();
            if own.len() < 2 || held.is_empty() {
                continue;
            }
            let whole = part.probabilities(&part.fitted, &held, set, class);
            // Every other one, and the rest: two halves, of which neither is earlier.
            let halves = [0, 1].map(|first| {
                let half: Vec<usize> = own.iter().skip(first).step_by(2).copied().collect();
                let (features, _) = set.select(&half).plain();
                let mean = features.mean_axis(Axis(0)).unwrap_or_default();
                let fitted = part.fitted.with_mean(class, mean.view(), &part.precision);
                part.probabilities(&fitted, &held, set, class)
            });
            let [one, other] = &halves;
            let rows = whole.iter().zip(one.iter().zip(other));
            differences.extend(rows.map(|(whole, (one, other))| whole - 0.5 * (one + other)));
        }
        let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len().max(1) as f32;
        let (found, count) = (mean(&differences), differences.len());
        let squares: Vec<f32> = differences.iter().map(|x| (x - found).powi(2)).collect();
        Loss {
            mean: found,
            error: (mean(&squares) / count.max(1) as f32).sqrt(),
            told: count > 0,
        }
    }

    /// What `more` pictures beside `pictures` should bring: with twice as many, as much again as the last doubling brought.
    fn gain(&self, pictures: usize, more: usize) -> f32 {
        self.mean * (1.0 + more as f32 / pictures.max(1) as f32).log2()
    }
}

impl Part {
    /// How probable `class` is for the pictures at `rows` of `set` with these Gaussians.
    fn probabilities(
        &self,
        gaussians: &super::Discriminant,
        rows: &[usize],
        set: &FeatureSet,
        class: usize,
    ) -> Vec<f32> {
        let places: Vec<usize> = (0..self.pictures.len())
            .filter(|&place| rows.contains(&self.pictures[place]))
            .collect();
        let (held, _) = set.select(rows).plain();
        let texts = self.texts.select(Axis(0), &places);
        let scores = texts + &(gaussians.scores(held.view()) * super::STRENGTH);
        softmax_rows(scores, 1.0).column(class).to_vec()
    }
}

fn advise(class: usize, named: &Array2<usize>, loss: &Loss, set: &FeatureSet) -> Advice {
    let pictures = set.labels.iter().filter(|&&label| label == class).count();
    let row = named.row(class);
    let (judged, right) = (row.sum(), row[class]);
    let accuracy = (judged > 0).then(|| right as f32 / judged as f32);
    let more = pictures.clamp(ASKED.0, ASKED.1);
    let gain = (judged > 0 && loss.told).then(|| loss.gain(pictures, more));
    let sure = loss.mean > loss.error;
    let wrong = judged - right;
    let other = (0..row.len())
        .filter(|&other| other != class)
        .max_by_key(|&other| row[other]);
    let wanted = match (gain, other) {
        _ if pictures < LEAST => Wanted::More {
            pictures: LEAST - pictures,
            gain: None,
        },
        (Some(gain), _) if gain >= WORTH && sure => Wanted::More {
            pictures: more,
            gain: Some(gain),
        },
        (_, Some(other))
            if wrong as f32 > WRONG * judged as f32
                && wrong >= 2
                && row[other] as f32 >= MOSTLY * wrong as f32 =>
        {
            Wanted::Alike { other }
        }
        _ => Wanted::Plenty,
    };
    Advice {
        label: class,
        accuracy,
        wanted,
    }
}

impl Advice {
    /// What helps most is largest.
    fn urgency(&self) -> f32 {
        match self.wanted {
            Wanted::More {
                gain: None,
                pictures,
            } => 10.0 + pictures as f32,
            Wanted::More {
                gain: Some(gain), ..
            } => 5.0 + gain,
            Wanted::Alike { .. } => 2.0 - self.accuracy.unwrap_or(0.0),
            Wanted::Plenty => -self.accuracy.unwrap_or(0.0),
        }
    }
}

/// Of two labels that look like each other, the later is left out.
fn once_each_pair(advice: &mut Vec<Advice>) {
    let alike: Vec<(usize, usize)> = advice
        .iter()
        .filter_map(|of| match of.wanted {
            Wanted::Alike { other } => Some((of.label, other)),
            _ => None,
        })
        .collect();
    advice.retain(|of| match of.wanted {
        Wanted::Alike { other } => of.label < other || !alike.contains(&(other, of.label)),
        _ => true,
    });
}

#[cfg(test)]
mod tests {
    use super::super::tests::{drawn, with_task};
    use super::*;

    #[test]
    fn noisy_labels_want_more_pictures_and_clear_ones_have_plenty() {
        with_task(|task, joint| {
            let found = enough(task, &drawn(joint, 0.3)).unwrap();
            assert_eq!(found.advice.len(), 3);
            let plenty = |of: &Advice| of.wanted == Wanted::Plenty && of.accuracy == Some(1.0);
            assert!(found.advice.iter().all(plenty), "{found:?}");
            let found = enough(task, &drawn(joint, 4.0)).unwrap();
            let more = |of: &&Advice| matches!(of.wanted, Wanted::More { gain: Some(gain), pictures: 12 } if gain >= WORTH);
            assert!(found.advice.iter().filter(more).count() >= 2, "{found:?}");
        });
    }

    #[test]
    fn what_more_pictures_are_said_to_bring_they_bring_about() {
        with_task(|task, joint| {
            let all = super::super::tests::drawn_of(joint, 4.0, 96);
            let (mut expected, mut brought) = (0.0, 0.0);
            for class in 0..3 {
                // Sixteen of each label, and then sixteen more of one.
                let few: Vec<usize> = (0..48).collect();
                let more: Vec<usize> = (0..96)
                    .filter(|row| *row < 48 || row % 3 == class)
                    .collect();
                let parts = |rows: &[usize]| {
                    let set = all.select(rows);
                    let parts = Judge::new(task, &set).unwrap().parts().unwrap();
                    (set, parts)
                };
                let probability = |rows: &[usize]| {
                    let (set, parts) = parts(rows);
                    let of_class = |&row: &usize| set.labels[row] == class;
                    let all: Vec<f32> = parts
                        .iter()
                        .flat_map(|part| {
                            let own = part.pictures.iter().copied().filter(of_class);
                            let own: Vec<usize> = own.collect();
                            part.probabilities(&part.fitted, &own, &set, class)
                        })
                        .collect();
                    all.iter().sum::<f32>() / all.len() as f32
                };
                let (set, before) = parts(&few);
                expected += Loss::of_half(&before, &set, class).gain(16, 16) / 3.0;
                brought += (probability(&more) - probability(&few)) / 3.0;
            }
            println!("said {expected:.3}, brought {brought:.3}");
            assert!(expected > 0.0 && brought > 0.0);
            assert!((expected - brought).abs() < 0.07, "{expected} {brought}");
        });
    }

    #[test]
    fn labels_of_the_same_things_look_alike_and_are_named_once() {
        with_task(|task, joint| {
            let mut set = drawn(joint, 0.3);
            // Pictures of the first are called by turns as the first and as the second.
            let mut turn = 0;
            for row in 0..set.labels.len() {
                if set.labels[row] != 2 {
                    set.labels[row] = turn % 2;
                    turn += 1;
                    let first = set.features.index_axis(Axis(0), (row / 3) * 3).to_owned();
                    set.features.index_axis_mut(Axis(0), row).assign(&first);
                }
            }
            let found = enough(task, &set).unwrap();
            let alike: Vec<_> = found
                .advice
                .iter()
                .filter_map(|of| match of.wanted {
                    Wanted::Alike { other } => Some((of.label, other)),
                    _ => None,
                })
                .collect();
            assert_eq!(alike, [(0, 1)], "{found:?}");
        });
    }

    #[test]
    fn a_label_with_too_few_pictures_wants_some_before_anything_is_said_of_it() {
        with_task(|task, joint| {
            let set = drawn(joint, 0.5);
            let kept: Vec<usize> = (0..36).filter(|&row| row % 3 != 1 || row == 1).collect();
            let found = enough(task, &set.select(&kept)).unwrap();
            let first = found.advice[0];
            let wanted = Wanted::More {
                pictures: LEAST - 1,
                gain: None,
            };
            assert_eq!(
                (first.label, first.accuracy, first.wanted),
                (1, None, wanted)
            );
            assert!(enough(task, &set.select(&[])).unwrap().curve.is_empty());
        });
    }

    #[test]
    fn the_curve_doubles_the_shots_up_to_all_that_there_are() {
        with_task(|task, joint| {
            let curve = enough(task, &drawn(joint, 1.5)).unwrap().curve;
            let shots: Vec<usize> = curve.iter().map(|at| at.shots).collect();
            assert_eq!(shots, [2, 4, 8, 11]);
            assert!(curve[3].accuracy >= curve[0].accuracy, "{curve:?}");
        });
    }
}
