//! Whether a prompt is better than the template, by pictures that it was not trained on: the same pictures answered by both,
//! compared pair by pair, with a prior that keeps a handful of pictures from saying much.

/// The share of what may be that the interval holds, as a quantile of the standard normal distribution: 95 %.
const Z: f64 = 1.96;
/// Pictures that the prior is worth: one each that only one of both answers right, and two of all others.
const PRIOR: [f64; 3] = [1.0, 1.0, 2.0];
/// How many more shots are asked for at least and at most.
const MORE: (usize, usize) = (2, 20);
/// Labels that are named as needing shots.
const NAMED: usize = 2;

/// What the comparison comes to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Verdict {
    /// The gain in accuracy over the template, in `-1..=1`: as it was seen.
    pub gain: f32,
    /// The gains that are credible, 95 %, lowest and highest.
    pub credible: (f32, f32),
    /// What may be said.
    pub judgement: Judgement,
}

/// What may be said of a prompt beside the template.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Judgement {
    /// No credible gain is a loss.
    Better,
    /// No credible gain is a gain.
    Worse,
    /// Both may be.
    Unsure(MoreShots),
}

/// What would tell: about so many more shots of each of some labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoreShots {
    /// Of each.
    pub shots: usize,
    /// The classes that are mistaken most, as indices.
    pub classes: Vec<usize>,
}

/// A picture as both saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// What it shows.
    pub truth: usize,
    /// What the template takes it for.
    pub before: usize,
    /// What the prompt takes it for.
    pub after: usize,
}

impl Verdict {
    /// Of `pairs`, for `classes` classes.
    pub fn of(pairs: &[Pair], classes: usize) -> Verdict {
        let [gained, lost, same] = outcomes(pairs).map(|count| count as f64);
        let seen = (gained + lost + same).max(1.0);
        let [better, worse, rest] = PRIOR;
        let total = gained + lost + same + better + worse + rest;
        // The posterior is a Dirichlet distribution: the mean and the variance of a difference of two of its shares.
        let (up, down) = ((gained + better) / total, (lost + worse) / total);
        let mean = up - down;
        let spread = (up + down - mean * mean).max(0.0);
        let reach = Z * (spread / (total + 1.0)).sqrt();
        let (low, high) = (mean - reach, mean + reach);
        let judgement = if low > 0.0 {
            Judgement::Better
        } else if high < 0.0 {
            Judgement::Worse
        } else {
            // As many pictures as make the interval shorter than the gain.
            let enough = Z * Z * spread / (mean * mean).max(f64::MIN_POSITIVE);
            Judgement::Unsure(more_shots(pairs, classes, enough - total))
        };
        Verdict {
            gain: ((gained - lost) / seen) as f32,
            credible: (low.max(-1.0) as f32, high.min(1.0) as f32),
            judgement,
        }
    }
}

/// Pictures that only the prompt answers right, that only the template does, and all others.
fn outcomes(pairs: &[Pair]) -> [usize; 3] {
    let mut counts = [0; 3];
    for pair in pairs {
        let place = match (pair.before == pair.truth, pair.after == pair.truth) {
            (false, true) => 0,
            (true, false) => 1,
            _ => 2,
        };
        counts[place] += 1;
    }
    counts
}

/// `missing` pictures more, of the classes that are mistaken most.
fn more_shots(pairs: &[Pair], classes: usize, missing: f64) -> MoreShots {
    let mistakes = |class: usize| {
        let of = pairs.iter().filter(|pair| pair.truth == class);
        of.filter(|pair| pair.after != class).count()
    };
    let mut worst: Vec<usize> = (0..classes).collect();
    worst.sort_by_key(|&class| std::cmp::Reverse(mistakes(class)));
    worst.truncate(NAMED);
    let each = (missing / NAMED as f64).ceil();
    let (least, most) = (MORE.0 as f64, MORE.1 as f64);
    MoreShots {
        shots: each.clamp(least, most) as usize,
        classes: worst,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// Pairs of which so many only the prompt, only the template, and both answer right.
    fn pairs(gained: usize, lost: usize, both: usize) -> Vec<Pair> {
        let pair = |before, after| Pair {
            truth: 0,
            before,
            after,
        };
        [
            vec![pair(1, 0); gained],
            vec![pair(0, 1); lost],
            vec![pair(0, 0); both],
        ]
        .concat()
    }

    #[test]
    fn many_pictures_tell_and_few_do_not() {
        let sure = Verdict::of(&pairs(20, 4, 120), 2);
        assert_eq!(sure.judgement, Judgement::Better);
        assert!((sure.gain - 16.0 / 144.0).abs() < 1e-6);
        assert!(sure.credible.0 > 0.04 && sure.credible.1 < 0.18, "{sure:?}");
        let worse = Verdict::of(&pairs(4, 20, 120), 2);
        assert_eq!(worse.judgement, Judgement::Worse);
        let unsure = Verdict::of(&pairs(2, 1, 9), 2);
        assert!(matches!(unsure.judgement, Judgement::Unsure(_)));
        // Three of three: a quarter of three shots is noise.
        let few = Verdict::of(&pairs(3, 0, 0), 2);
        assert!(matches!(few.judgement, Judgement::Unsure(_)), "{few:?}");
        let none = Verdict::of(&[], 2);
        assert_eq!(none.gain, 0.0);
        assert!(none.credible.0 < -0.5 && none.credible.1 > 0.5, "{none:?}");
    }

    #[test]
    fn the_labels_that_are_mistaken_most_are_the_ones_to_show_again() {
        let mut all = pairs(2, 1, 20);
        let mistaken = Pair {
            truth: 2,
            before: 2,
            after: 1,
        };
        all.extend([mistaken; 2]);
        let Judgement::Unsure(more) = Verdict::of(&all, 4).judgement else {
            panic!("25 pictures cannot tell")
        };
        assert_eq!(more.classes, [2, 0]);
        assert!((2..=20).contains(&more.shots), "{more:?}");
    }

    #[test]
    fn the_interval_holds_the_true_gain_about_as_often_as_it_says() {
        let mut rng = Rng::new(7);
        let (up, down, trials) = (0.15f32, 0.05, 400);
        let mut held = 0;
        for _ in 0..trials {
            let mut counts = [0; 3];
            for _ in 0..100 {
                let drawn = rng.uniform();
                let place = match drawn {
                    x if x < up => 0,
                    x if x < up + down => 1,
                    _ => 2,
                };
                counts[place] += 1;
            }
            let (low, high) = Verdict::of(&pairs(counts[0], counts[1], counts[2]), 2).credible;
            held += usize::from((low..=high).contains(&(up - down)));
        }
        let share = held as f32 / trials as f32;
        assert!((0.91..=0.99).contains(&share), "{share}");
    }
}
