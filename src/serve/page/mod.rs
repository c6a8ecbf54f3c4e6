//! The files of the page, inside the program.

/// Path, type and content of each file.
pub const FILES: &[(&str, &str, &str)] = &[
    ("/", "text/html; charset=utf-8", include_str!("index.html")),
    (
        "/app.js",
        "text/javascript; charset=utf-8",
        include_str!("app.js"),
    ),
    (
        "/style.css",
        "text/css; charset=utf-8",
        include_str!("style.css"),
    ),
    (
        "/texts.json",
        "application/json",
        include_str!("texts.json"),
    ),
];
