//! `--region`: which parts of pictures are looked at, as the flags say or a prompt remembers.

use super::{Context, usage};
use crate::prompt::Region;
use crate::prompt::region::{check_regions, in_words};
use crate::store::LoadedPrompt;

/// What to look at in each picture.
#[derive(clap::Args)]
pub struct RegionArguments {
    /// Look at this part of each picture alone: left, top, width and height in per cent, as in 10,20,30,40, or in pixels,
    /// as in 64,96,192,192px; several with names, as in door=10,20,30,40
    #[arg(long = "region", value_name = "[NAME=]X,Y,W,H")]
    regions: Vec<Region>,
}

impl RegionArguments {
    /// What the flags say; none for whole pictures.
    ///
    /// # Errors
    /// Wrong usage if there are too many, or two of one name.
    pub fn regions(&self) -> anyhow::Result<Vec<Region>> {
        check_regions(&self.regions).map_err(usage)?;
        Ok(self.regions.clone())
    }

    /// What to look at in a camera's pictures: what the flags say, else what the prompt remembers; others than those are
    /// told.
    ///
    /// # Errors
    /// Those of [`RegionArguments::regions`].
    pub fn of_camera(
        &self,
        prompt: Option<&LoadedPrompt>,
        context: &Context,
    ) -> anyhow::Result<Vec<Region>> {
        let given = self.regions()?;
        let Some(learnt) = prompt.map(|prompt| &prompt.record.regions) else {
            return Ok(given);
        };
        if given.is_empty() && !learnt.is_empty() {
            context.output.note(format!(
                "looking at what the prompt was trained on: {}",
                in_words(learnt)
            ));
            return Ok(learnt.clone());
        }
        tell_other(&given, learnt, context);
        Ok(given)
    }

    /// The same for picture files, which may be cut out already: the flags alone decide.
    ///
    /// # Errors
    /// Those of [`RegionArguments::regions`].
    pub fn of_files(
        &self,
        prompt: Option<&LoadedPrompt>,
        context: &Context,
    ) -> anyhow::Result<Vec<Region>> {
        let given = self.regions()?;
        if let Some(prompt) = prompt {
            tell_other(&given, &prompt.record.regions, context);
        }
        Ok(given)
    }
}

/// Tells of regions that the prompt was not trained on; where they lie counts, not what they are called.
fn tell_other(given: &[Region], learnt: &[Region], context: &Context) {
    let known = |region: &Region| learnt.iter().any(|other| other.area == region.area);
    let same = given.iter().all(known) && given.is_empty() == learnt.is_empty();
    if !same {
        context.output.warn(format!(
            "the prompt was trained on {}, and is used on {}",
            in_words(learnt),
            in_words(given)
        ));
    }
}
