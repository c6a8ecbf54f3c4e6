//! The files of the page, inside the program. There is no build step: these are what a browser gets.

/// What a browser takes a module of the page for.
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, type and content of each file.
pub const FILES: &[(&str, &str, &str)] = &[
    ("/", "text/html; charset=utf-8", include_str!("index.html")),
    (
        "/style.css",
        "text/css; charset=utf-8",
        include_str!("style.css"),
    ),
    ("/icon.svg", "image/svg+xml", include_str!("icon.svg")),
    (
        "/texts.json",
        "application/json",
        include_str!("texts.json"),
    ),
    ("/app.js", SCRIPT, include_str!("app.js")),
    ("/state.js", SCRIPT, include_str!("state.js")),
    ("/api.js", SCRIPT, include_str!("api.js")),
    ("/dom.js", SCRIPT, include_str!("dom.js")),
    ("/live.js", SCRIPT, include_str!("live.js")),
    ("/regions.js", SCRIPT, include_str!("regions.js")),
    ("/teach.js", SCRIPT, include_str!("teach.js")),
    ("/gallery.js", SCRIPT, include_str!("gallery.js")),
    ("/train.js", SCRIPT, include_str!("train.js")),
    ("/advice.js", SCRIPT, include_str!("advice.js")),
];
