//! The program as people and machines use it, one module for each command or theme. One test program, so that `support` is
//! compiled and linked once. What needs a process of its own lies beside this folder.

#[path = "../support/mod.rs"]
mod support;

mod bench;
mod cameras;
mod cli;
mod download;
mod eval;
mod https;
mod labelling;
mod layouts;
mod limits;
mod models;
mod mqtt;
mod outside_text;
mod pull;
mod robustness;
mod rtsp;
mod secrets;
mod serve;
mod shots;
mod unlabelled;
mod whole_texts;
