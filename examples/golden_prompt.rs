//! Makes `prompts/golden-v1.rlp`, `golden-v2.rlp`, `golden-v3.rlp` and `golden-v3-prototypes.rlp`, the prompt files that every
//! later release must read. They were written once a format version or a section and never again; this shows what is in them, and makes what is missing:
//!
//!     cargo run --release --example golden_prompt -- prompts

use edge_rlp::prompt::{
    Calibration, Delta, Factors, FeatureStatistics, Label, Prompt, Prototypes, Template, density,
};
use edge_rlp::rng::Rng;
use edge_rlp::store::{
    atomic, encode,
    file_system::{Access, Disk},
};
use ndarray::{Array1, Array2};
use std::error::Error;
use std::path::Path;

/// Ten things on a workbench; one label has words of its own.
const LABELS: [(&str, Option<&str>); 10] = [
    ("mug", None),
    ("key", None),
    ("bolt", None),
    ("washer", Some("metal washer")),
    ("scissors", None),
    ("bottle", None),
    ("work_glove", None),
    ("hammer", None),
    ("Schlüssel", Some("spanner")),
    ("empty", Some("empty shelf")),
];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os()
        .nth(1)
        .ok_or("usage: golden_prompt FOLDER")?;
    let [first, second, third, fourth] = ["v1", "v2", "v3", "v3-prototypes"]
        .map(|name| Path::new(&folder).join(format!("golden-{name}.rlp")));
    if !first.exists() {
        atomic::write(&Disk, &first, &encode(&golden()?)?, Access::Usual)?;
    }
    let mut record = Prompt::open(&first)?;
    record.statistics = Some(statistics());
    if !second.exists() {
        atomic::write(&Disk, &second, &encode(&record)?, Access::Usual)?;
    }
    record.regions = vec!["door=10,20,30,40".parse()?, "64,96,192,192px".parse()?];
    if !third.exists() {
        atomic::write(&Disk, &third, &encode(&record)?, Access::Usual)?;
    }
    record.prototypes = Some(prototypes());
    if !fourth.exists() {
        atomic::write(&Disk, &fourth, &encode(&record)?, Access::Usual)?;
    }
    Ok(())
}

/// As if pictures were eight numbers to the model: the mean is 0.8 long.
fn statistics() -> FeatureStatistics {
    FeatureStatistics {
        mean: vec![0.4, -0.4, 0.4, -0.4, 0.0, 0.0, 0.0, 0.0],
        spread: 0.36,
        pictures: 200,
    }
}

/// Class means of as many numbers; the last label had no shots.
fn prototypes() -> Prototypes {
    let known = |class: usize| f32::from(u8::from(class + 1 < LABELS.len()));
    let table = |size: f32| {
        Array2::from_shape_fn((LABELS.len(), 8), |(class, n)| {
            size * known(class) * ((class + n) % 5) as f32
        })
    };
    let bias = Array1::from_shape_fn(LABELS.len(), |class| -0.01 * known(class) * class as f32);
    Prototypes::new(table(0.25).view(), table(0.05).view(), &bias).with_sharpness(20.0)
}

fn golden() -> Result<Prompt, Box<dyn Error>> {
    let (tokens, width, seed) = (4, 512, 7);
    let mut rng = Rng::with_stream(seed, 1);
    let mut normal = |rows, deviation: f32| {
        Array2::from_shape_simple_fn((rows, width), || deviation * rng.normal())
    };
    let context = normal(tokens, 0.02);
    let factors = Factors {
        v: normal(1, 0.3),
        ..Factors::init(tokens, width, 1, seed)?
    };
    let labels = LABELS.iter().map(|(name, words)| Label::new(name, *words));
    let spectrum = density::singular_values((context + factors.product()).view());
    let mut prompt = Prompt::new(
        "golden",
        *blake3::hash(b"no model has these weights").as_bytes(),
        Template::default(),
        labels.collect::<Result<_, _>>()?,
        Delta::LowRank(factors),
    );
    prompt.context_singular_values = spectrum;
    prompt.seed = seed;
    prompt.recipe = "an example".into();
    prompt.metrics.zero_shot_accuracy = 0.625;
    prompt.metrics.adapted_accuracy = 0.875;
    prompt.metrics.images = 160;
    prompt.metrics.holdout_images = 40;
    prompt.metrics.steps = 60;
    prompt.calibration = Some(Calibration {
        temperature: 1.25,
        unknown_threshold: 0.5,
    });
    prompt.provenance.device = "example".into();
    prompt.provenance.seconds = 4.5;
    prompt.provenance.created_unix = Some(1_763_769_600);
    prompt.provenance.sequence = 3;
    Ok(prompt)
}
