//! The reverse sweep over a text transformer: which operators stand on the path of the prompt, in what order,
//! and what to keep. It must not know files, tokenisers or training.
