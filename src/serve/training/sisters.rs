//! Prompts of sister cameras for a training: those of this box's other cameras that know the same labels, and what a fleet has
//! published, where that is in use.

use std::iter;

use crate::adapt::{Sister, Task};
use crate::fleet::follower::is_of_fleet;
use crate::prompt::labels::places_among;
use crate::prompt::{Delta, Prompt, Template};
use crate::store::Home;

/// The most that are asked: each takes time at every start and in the judgement.
const MOST: usize = 16;

/// The sisters of what the prompt `own` is trained for, `task` in `template`, among the `prompts` of all cameras, by their names;
/// the fleet's that is in use has the name of its own. One that has seen the shots, as an earlier generation under another name,
/// is none.
pub fn of(
    home: &Home,
    own: &String,
    prompts: &[String],
    task: &Task,
    template: &Template,
) -> Vec<Sister> {
    let others = prompts.iter().filter(|name| *name != own);
    let unseen = unseen(home, own, iter::once(own).chain(others));
    let known = unseen.iter().filter(|(_, prompt)| {
        let places = places_among(&prompt.labels, task.labels);
        places.iter().all(Option::is_some)
    });
    // Those of another model or template are prompts of other things.
    known
        .filter_map(|(name, prompt)| Sister::new(name, prompt, task, template).ok())
        .take(MOST)
        .collect()
}

/// Those of `names` that were not made of the shots of the prompt `own`, each once.
fn unseen<'a>(
    home: &Home,
    own: &str,
    names: impl Iterator<Item = &'a String>,
) -> Vec<(String, Prompt)> {
    let generations = home.history(own).unwrap_or_default();
    let own = generations.into_iter().filter_map(|of| of.prompt.ok());
    let own = own.map(|loaded| loaded.record);
    // What another camera has kept of this one has other labels and statistics, and the same change.
    let mut seen: Vec<Delta> = own
        .filter(|prompt| !is_of_fleet(home, prompt))
        .map(|prompt| prompt.delta)
        .collect();
    let mut found = Vec::new();
    for name in names {
        if let Ok(loaded) = home.load(name)
            && !seen.contains(&loaded.record.delta)
        {
            seen.push(loaded.record.delta.clone());
            found.push((name.clone(), loaded.record));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::{Label, Tuning};
    #[cfg(feature = "fleet")]
    use crate::store::format;

    fn prompt(seed: u64) -> Prompt {
        let labels = ["mug", "key"].map(|name| Label::new(name, None).unwrap());
        let change = Delta::init(Tuning::Rlp, 4, 64, 1, seed).unwrap();
        Prompt::new("tiny", [7; 32], Template::default(), labels.into(), change)
    }

    #[test]
    fn a_prompt_that_has_seen_the_shots_is_no_sister_under_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path());
        let names = ["own", "copy", "older", "till", "same", "none"].map(String::from);
        let asked = |home: &Home| -> Vec<String> {
            let found = unseen(home, "own", names.iter());
            found.into_iter().map(|(name, _)| name).collect()
        };
        for (name, seed) in [
            ("own", 1),
            ("own", 2),
            ("copy", 2),
            ("older", 1),
            ("till", 3),
            ("same", 3),
        ] {
            let mut prompt = prompt(seed);
            prompt.metrics.images = u32::from(name == "copy");
            home.save(name, &prompt).unwrap();
        }
        assert_eq!(asked(&home), ["till"]);
    }

    #[cfg(feature = "fleet")]
    #[test]
    fn a_prompt_in_use_that_came_from_the_fleet_is_a_sister() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path());
        home.save("own", &prompt(1)).unwrap();
        home.save("own", &prompt(2)).unwrap();
        let digest = format::digest(&prompt(2)).unwrap().to_hex().to_string();
        let record = crate::fleet::Record {
            prompts: vec![digest],
            ..Default::default()
        };
        let record = serde_json::to_vec(&record).unwrap();
        home.keep_fleet_file("north.shelf.json", &record).unwrap();
        let names = ["own".to_owned()];
        let found = unseen(&home, "own", names.iter());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1.delta, prompt(2).delta);
    }
}
