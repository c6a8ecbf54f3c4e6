//! A model as the rest of the program sees it: both towers, tokeniser, preprocessing and logit scale, opened from one
//! bundle. It must not know where bundles are kept nor how they are made.

use std::path::Path;
use std::sync::Arc;

use image::RgbImage;
use ndarray::Array1;
use serde::Serialize;
use thiserror::Error;

use super::bundle::{Bundle, BundleError, Fingerprint, Header};
use super::contents::{
    About, Description, IMAGE, Parity, Precision, TEXT, TOKENIZER, read_image, read_text,
};
use super::image_tower::{ImageTower, ImageTowerError};
use super::preprocess::{Preprocess, PreprocessError};
use super::text_tower::{Reading, TextTower, TextTowerError};
use super::tokenizer::{Tokenizer, TokenizerError};
use crate::host::memory;
use crate::ops::Activation;
use crate::prompt::{Label, Template, TemplateError, TokenLayout};

/// The model that the project trains itself (models/default).
static DEFAULT: &[u8] = include_bytes!("../../models/default/default.rlpm");

/// Why a model cannot be opened or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The bundle cannot be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The image tower cannot be opened or run.
    #[error(transparent)]
    Image(#[from] ImageTowerError),
    /// The text tower cannot be opened or run.
    #[error(transparent)]
    Text(#[from] TextTowerError),
    /// The tokenizer cannot be opened.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A picture cannot be preprocessed.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
    /// Two parts of the bundle have different sizes; this says which.
    #[error("the model's parts do not fit each other: {0}; import the model again")]
    Mismatch(String),
}

/// A frozen CLIP: both towers and what prepares their input.
pub struct Model {
    /// What its bundle calls it.
    pub name: String,
    /// Tells it from every model that computes something else.
    pub fingerprint: Fingerprint,
    /// From text to token ids.
    pub tokenizer: Tokenizer,
    /// From a picture of any size to what the image tower takes.
    pub preprocess: Preprocess,
    /// From pixels `[3, size, size]` to features `[e]`.
    pub image: ImageTower,
    /// From token ids to features `[e]`.
    pub text: TextTower,
    /// s, already exponentiated: 100 for OpenAI's weights.
    pub logit_scale: f32,
    /// What is added to scaled cosines, in a model that was trained with a sigmoid for each pair (SigLIP).
    pub logit_bias: Option<f32>,
    summary: Summary,
    bundle: Arc<Bundle>,
}

/// The sizes and the provenance of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// The model's name.
    pub name: String,
    /// In hexadecimal.
    pub fingerprint: String,
    /// Size of the bundle.
    pub bytes: usize,
    /// Numbers in all weights of both towers.
    pub parameters: u64,
    /// How the weights are kept.
    pub precision: Precision,
    /// How close the bundle is to the files that it was imported from.
    pub parity: Parity,
    /// Height and width, in pixels, of what the image tower takes.
    pub image_size: [usize; 2],
    /// e, the length of a feature.
    pub joint_width: usize,
    /// d, the width of a token row.
    pub text_width: usize,
    /// Blocks of the text tower.
    pub text_blocks: u32,
    /// Heads of attention in each of its blocks.
    pub text_heads: u32,
    /// Of the text tower's MLPs.
    pub activation: Activation,
    /// Tokens that a text may have, start and end included.
    pub context_length: usize,
    /// Tokens that the text tower has rows for.
    pub vocabulary: usize,
    /// s, already exponentiated.
    pub logit_scale: f32,
    /// Of a model that was trained with a sigmoid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logit_bias: Option<f32>,
    /// How texts are read.
    pub reading: Reading,
}

/// What a bundle says of its model, read without the weights: enough to list it and to find it by fingerprint, whatever
/// its size. Only opening the model tells whether its weights are whole.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BundleHeader {
    /// The model's name.
    pub name: String,
    /// The BLAKE3 digest of its weights.
    pub fingerprint: Fingerprint,
    /// Size of the bundle.
    pub bytes: usize,
    /// How the weights are kept.
    pub precision: Precision,
    /// How close the bundle is to the files that it was imported from.
    pub parity: Parity,
}

impl BundleHeader {
    /// The header of the bundle at `path`.
    ///
    /// # Errors
    /// A file that cannot be read, is not a bundle, is damaged in its header or was cut short.
    pub fn read(path: &Path) -> Result<BundleHeader, ModelError> {
        BundleHeader::of(&Header::read(path)?)
    }

    /// The header of the default model, which is part of the program.
    ///
    /// # Errors
    /// None, unless the program is damaged.
    pub fn embedded() -> Result<BundleHeader, ModelError> {
        BundleHeader::of(&Header::of(DEFAULT)?)
    }

    fn of(header: &Header) -> Result<BundleHeader, ModelError> {
        let about: About = header.about()?;
        Ok(BundleHeader {
            name: about.name,
            fingerprint: header.fingerprint,
            bytes: header.size,
            precision: about.precision,
            parity: about.parity,
        })
    }
}

impl Model {
    /// Opens the bundle at `path` by memory map and checks all of it. The file must not be changed while the model is open.
    ///
    /// # Errors
    /// A file that cannot be read or mapped, and one that is damaged, newer than this program, or not a bundle.
    pub fn open(path: &Path) -> Result<Model, ModelError> {
        Model::from_bundle(&Bundle::open(path)?)
    }

    /// Opens a bundle held in memory.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Result<Model, ModelError> {
        Model::from_bundle(&Bundle::from_bytes(bytes)?)
    }

    /// The default model, which is part of the program.
    ///
    /// # Errors
    /// None, unless the program is damaged.
    pub fn embedded() -> Result<Model, ModelError> {
        Model::from_bundle(&Bundle::from_static(DEFAULT)?)
    }

    fn from_bundle(bundle: &Bundle) -> Result<Model, ModelError> {
        let description = Description::read(bundle)?;
        let about: About = bundle.about()?;
        description.preprocess.check()?;
        let bundle = Arc::new(bundle.clone());
        let towers = || {
            let text = TextTower::new(read_text(&bundle, &description.text)?)?;
            bundle.release();
            let image = ImageTower::read(read_image(&bundle)?)?;
            Ok::<_, ModelError>((text, image))
        };
        // CLIP's 49,408 tokens take longer than both towers.
        let tokenizer = || Tokenizer::from_json(bundle.bytes(TOKENIZER)?).map_err(ModelError::from);
        let (tokenizer, towers) = rayon::join(tokenizer, towers);
        let (tokenizer, (text, image)) = (tokenizer?, towers?);
        bundle.release();

        fit_together(&description, &tokenizer, &image, &text)?;
        let [_, height, width] = image.shape();
        let summary = Summary {
            name: about.name.clone(),
            fingerprint: bundle.fingerprint().to_string(),
            bytes: bundle.size(),
            parameters: bundle.parameters(),
            precision: about.precision,
            parity: about.parity,
            image_size: [height, width],
            joint_width: text.joint_width(),
            text_width: text.width(),
            text_blocks: description.text.blocks,
            text_heads: description.text.heads,
            activation: description.text.activation,
            context_length: text.context_length(),
            vocabulary: text.vocabulary(),
            logit_scale: description.logit_scale,
            logit_bias: description.logit_bias,
            reading: text.reading(),
        };
        Ok(Model {
            name: about.name,
            fingerprint: bundle.fingerprint(),
            tokenizer,
            preprocess: description.preprocess,
            image,
            text,
            logit_scale: description.logit_scale,
            logit_bias: description.logit_bias,
            summary,
            bundle,
        })
    }

    /// Gives back the memory of the text tower's weights: where they are a file's, and where training has put them into
    /// another order. Texts that come later read them again.
    pub fn release_text(&self) {
        self.text.release();
        self.bundle.release_some(TEXT);
    }

    /// The same for the image tower and pictures, with the weights that it put into another order.
    pub fn release_image(&self) {
        self.image.release();
        self.bundle.release_some(IMAGE);
        memory::give_back();
    }

    /// The logit that the model gives a picture and a text whose features have this inner product: scaled, and with the
    /// bias added where it has one. A bias is the same for all texts, so it changes no softmax over them.
    pub fn logit(&self, similarity: f32) -> f32 {
        self.logit_scale * similarity + self.logit_bias.unwrap_or(0.0)
    }

    /// The L2-normalised features `[e]` of a picture of any size.
    ///
    /// # Errors
    /// A picture without pixels, and features that are not finite.
    pub fn encode_image(&self, picture: &RgbImage) -> Result<Array1<f32>, ModelError> {
        Ok(self.image.encode(&self.preprocess.apply(picture)?)?)
    }

    /// The tokens of every label in `template`, cut where the tuned context ends.
    ///
    /// # Errors
    /// A template or a label that this model's tokeniser cannot read, or that is longer than
    /// [`TextTower::context_length`].
    pub fn layout(
        &self,
        template: &Template,
        labels: &[Label],
    ) -> Result<TokenLayout, TemplateError> {
        template.layout(
            |text| self.tokenizer.encode(text),
            self.tokenizer.end_token(),
            labels,
            // A model without a start token has room for one more.
            self.text.context_length() + usize::from(self.tokenizer.start_token().is_none()),
        )
    }

    /// Sizes, precision and parity.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
}

/// That the parts of a bundle are of one model.
fn fit_together(
    description: &Description,
    tokenizer: &Tokenizer,
    image: &ImageTower,
    text: &TextTower,
) -> Result<(), ModelError> {
    let mismatch = |what: String| Err(ModelError::Mismatch(what));
    let (of_image, of_text) = (image.joint_width(), text.joint_width());
    if of_image != of_text {
        return mismatch(format!(
            "features of picture and text differ in length ({of_image} and {of_text})"
        ));
    }
    let size = description.preprocess.size as usize;
    let [_, height, width] = image.shape();
    if let Some(side) = [height, width].into_iter().find(|&side| side != size) {
        return mismatch(format!(
            "pictures are prepared at another size than the image tower takes ({size} and {side})"
        ));
    }
    let (has, takes) = (tokenizer.vocabulary_size(), text.vocabulary());
    if has > takes {
        return mismatch(format!(
            "the tokeniser knows {has} tokens, the text tower {takes}"
        ));
    }
    let scale = description.logit_scale;
    if !(scale.is_finite() && scale > 0.0) {
        return mismatch(format!("the logit scale is {scale}"));
    }
    if let Some(bias) = description.logit_bias.filter(|bias| !bias.is_finite()) {
        return mismatch(format!("the logit bias is {bias}"));
    }
    let (of_texts, of_tower) = (tokenizer.start_token(), text.start_token());
    if of_texts.is_some() != of_tower.is_some() {
        return mismatch(
            "one of tokeniser and text tower has a start token, the other has none".into(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::image_tower::Fused;
    use crate::clip::import::{Overrides, from_directory, import};
    use ndarray::ArrayView1;

    /// What onnxruntime computes from the default model's towers (models/default/parity.py).
    #[derive(serde::Deserialize)]
    struct Expected {
        texts: Vec<String>,
        sequences: Vec<Vec<u32>>,
        text: Vec<Vec<f32>>,
        image: Vec<Vec<f32>>,
    }

    fn folder() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models/default"))
    }

    fn expected() -> Expected {
        serde_json::from_slice(&std::fs::read(folder().join("parity.json")).unwrap()).unwrap()
    }

    /// The pictures of models/default/parity.py.
    fn picture(index: i64, size: u32) -> RgbImage {
        RgbImage::from_fn(size, size, |x, y| {
            let (x, y, side) = (i64::from(x), i64::from(y), i64::from(size));
            let rings = ((x - side / 2).pow(2) + (y - side / 3).pow(2)) / (4 + 9 * index);
            image::Rgb([1, 2, 3].map(|c| (rings * (index % 2) + x * (2 + index) + y * c) as u8))
        })
    }

    fn cosine(a: ArrayView1<f32>, b: ArrayView1<f32>) -> f32 {
        a.dot(&b) / (a.dot(&a) * b.dot(&b)).sqrt()
    }

    /// The lowest cosines between the model's features and onnxruntime's: pictures, texts.
    fn lowest_cosines(model: &Model) -> (f32, f32) {
        let expected = expected();
        let image = expected.image.iter().enumerate().map(|(index, features)| {
            let found = model
                .encode_image(&picture(index as i64, model.preprocess.size))
                .unwrap();
            cosine(ArrayView1::from(features), found.view())
        });
        let found = model.text.encode(&expected.sequences).unwrap();
        let text = expected.text.iter().zip(found.outer_iter());
        let text = text.map(|(features, found)| cosine(ArrayView1::from(features), found));
        (
            image.fold(f32::INFINITY, f32::min),
            text.fold(f32::INFINITY, f32::min),
        )
    }

    #[test]
    fn the_embedded_default_computes_what_onnxruntime_does() {
        let model = Model::embedded().unwrap();
        let (image, text) = lowest_cosines(&model);
        println!("embedded, int8: image {image}, text {text}");
        assert!(
            image >= 0.995 && text >= 0.995,
            "image {image}, text {text}"
        );
        assert!(DEFAULT.len() <= 12 << 20, "{} bytes", DEFAULT.len());
    }

    #[test]
    fn the_default_in_floats_is_the_original() {
        let mut options = from_directory(folder(), &Overrides::default()).unwrap();
        options.precision = Precision::F32;
        let (image, text) =
            lowest_cosines(&Model::from_bytes(import(&options).unwrap().0).unwrap());
        println!("f32: image {image}, text {text}");
        assert!(
            image >= 0.99999 && text >= 0.99999,
            "image {image}, text {text}"
        );
    }

    #[test]
    fn the_embedded_default_is_made_from_the_files_beside_it() {
        let (bundle, _) =
            import(&from_directory(folder(), &Overrides::default()).unwrap()).unwrap();
        let (made, embedded) = (
            Model::from_bytes(bundle).unwrap(),
            Model::embedded().unwrap(),
        );
        assert_eq!(
            made.fingerprint, embedded.fingerprint,
            "run `cargo run --release --example import_default`"
        );
    }

    #[test]
    fn the_default_reads_texts_as_its_training_did() {
        let model = Model::embedded().unwrap();
        for (text, sequence) in expected().texts.iter().zip(&expected().sequences) {
            let words = model.tokenizer.encode(text).unwrap();
            assert_eq!(&model.tokenizer.sequence(words), sequence, "{text}");
        }
    }

    #[test]
    fn a_bundle_on_disk_is_the_one_in_the_program() {
        let (disk, embedded) = (
            Model::open(&folder().join("default.rlpm")).unwrap(),
            Model::embedded().unwrap(),
        );
        assert_eq!(disk.summary(), embedded.summary());
        assert_eq!(disk.summary().context_length, 32);
        let missing = Model::open(Path::new("no-such-file.rlpm"));
        assert!(matches!(
            missing,
            Err(ModelError::Bundle(BundleError::Io(_)))
        ));
    }

    #[test]
    fn the_header_says_what_opening_does() {
        let header = BundleHeader::read(&folder().join("default.rlpm")).unwrap();
        assert_eq!(header, BundleHeader::embedded().unwrap());
        let model = Model::embedded().unwrap();
        assert_eq!(
            (&header.name, header.fingerprint, header.bytes),
            (&model.name, model.fingerprint, model.summary().bytes)
        );
    }

    #[test]
    fn the_whole_default_runs_on_the_projects_own_operators() {
        let expected = Fused {
            // Two more and their projection look at earlier blocks.
            norms: 15,
            linears: 39,
            activations: 6,
            residuals: 13,
            pooled: 3,
            attentions: 6,
            patches: 0,
            // Its patches come from ten.
            convolutions: 10,
        };
        assert_eq!(Model::embedded().unwrap().image.fused(), expected);
    }

    #[test]
    fn towers_run_on_many_threads_with_equal_results() {
        let model = Model::embedded().unwrap();
        let encode = || model.encode_image(&picture(1, 80)).unwrap();
        let alone = encode();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(encode)).collect();
            threads
                .into_iter()
                .for_each(|thread| assert_eq!(thread.join().unwrap(), alone));
        });
    }
}
