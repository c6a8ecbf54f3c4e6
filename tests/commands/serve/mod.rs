//! `edge-rlp serve`: the daemon, its API and its configuration, as a client and an administrator meet them.
#![cfg(all(unix, feature = "serve"))]

mod access;
mod cameras;
#[cfg(feature = "rtsp")]
mod network_cameras;
mod teaching;

use crate::support::Directory;
use crate::support::serve::{Served, event};
use serde_json::{Value, json};
use std::io::{BufReader, Read};

const TWO: &str = r#"# two cameras
[[camera]]
name = "one"
source = "demo"
every = "100ms"
prompt = "things"

[[camera]]
name = "two"
source = "demo:fog"
every = "100ms"

[[camera.region]]
name = "left"
area = "0,0,50,100"
prompt = "things"
"#;

fn is_live(camera: &Value) -> bool {
    camera["state"] == "live" && camera["width"] != 0
}

const TAUGHT: &str = r#"
[training]
nice = 0
steps = 10
views = 1

[recent]
pictures = 5

[[camera]]
name = "one"
source = "demo"
every = "200ms"
prompt = "things"
"#;
