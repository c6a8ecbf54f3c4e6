//! How the labelling view looks: the camera's picture and what the model makes of it, the labels with their keys and
//! counts, and after training the verdict. It only reads; 80 columns and 24 rows hold all of it, fewer hold less.

use super::picture::blocks;
use super::state::{ENOUGH_SHOTS, Progress, Row, Stage, State, Verdict};
use super::terminal::Depth;
use super::watch::Snapshot;
use crate::cli::output::percent;
use crate::visible::shown;
use crate::watch::Hints;
use image::RgbImage;
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect, Size};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, LineGauge, Paragraph, Wrap};
use ratatui_image::Image;
use ratatui_image::protocol::Protocol;

/// Less than this cannot hold a picture beside labels.
const NARROWEST: Size = Size::new(24, 8);
/// From this width on the labels stand beside the picture, below it otherwise.
const BESIDE: u16 = 60;
/// Columns of the labels beside the picture.
const PANEL: u16 = 30;

/// All that is drawn beside the state.
pub struct Look<'a> {
    pub prompt: &'a str,
    /// The camera, or the file that is shown.
    pub source: &'a str,
    /// What guesses are made with.
    pub in_use: &'a str,
    pub snapshot: Option<&'a Snapshot>,
    /// What is drawn of it: the picture, with the regions' frames where there are regions.
    pub picture: Option<&'a RgbImage>,
    pub hints: &'a Hints,
    pub depth: Depth,
    /// The picture's real pixels and their place, where the terminal shows them.
    pub pixels: Option<(&'a Protocol, Rect)>,
}

/// The parts of the screen.
struct Places {
    title: Rect,
    picture: Rect,
    facts: Rect,
    labels: Rect,
    message: Rect,
    keys: Rect,
}

fn places(size: Size) -> Places {
    let whole = Rect::new(0, 0, size.width, size.height);
    let [title, body, message, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(2),
        Constraint::Length(1),
    ])
    .areas(whole);
    let (left, labels) = if size.width >= BESIDE {
        let [left, _, labels] = Layout::horizontal([
            Constraint::Min(1),
            Constraint::Length(1),
            Constraint::Length(PANEL),
        ])
        .areas(body);
        (left, labels)
    } else {
        let [left, labels] =
            Layout::vertical([Constraint::Fill(3), Constraint::Fill(2)]).areas(body);
        (left, labels)
    };
    let [picture, facts] =
        Layout::vertical([Constraint::Min(1), Constraint::Length(2)]).areas(left);
    Places {
        title,
        picture,
        facts,
        labels,
        message,
        keys,
    }
}

/// Where the picture goes; an empty place while something else is shown there.
pub fn picture_place(state: &State, size: Size) -> Rect {
    match state.stage {
        Stage::Verdict(_) => Rect::default(),
        _ if state.help => Rect::default(),
        _ => places(size).picture,
    }
}

/// Draws the view.
pub fn draw(frame: &mut Frame, state: &State, look: &Look) {
    let area = frame.area();
    if area.width < NARROWEST.width || area.height < NARROWEST.height {
        let words =
            Paragraph::new("make the terminal larger: 80 x 24 is best").wrap(Wrap::default());
        return frame.render_widget(words, area);
    }
    let places = places(area.as_size());
    frame.render_widget(title(state, look), places.title);
    labels(frame, state, places.labels);
    match &state.stage {
        Stage::Verdict(verdict) => {
            let place = places.picture.union(places.facts);
            frame.render_widget(Paragraph::new(judged(state, verdict, place)), place);
        }
        _ => {
            picture(frame, look, places.picture);
            let facts = Paragraph::new(facts(state, look));
            frame.render_widget(facts, places.facts);
        }
    }
    match &state.stage {
        Stage::Training(progress) => training(frame, progress, places.message),
        _ => frame.render_widget(message(state), places.message),
    }
    frame.render_widget(keys(state), places.keys);
    if state.help {
        help(
            frame,
            places.picture.union(places.facts).union(places.labels),
        );
    }
    uncover(frame.buffer_mut(), look.pixels.map(|(_, inside)| inside));
}

/// Replaces what cannot be seen, such as a change of the direction of writing in a name, by a sign that can; real pixels are
/// escape sequences, and stay.
fn uncover(buffer: &mut Buffer, pixels: Option<Rect>) {
    for position in buffer.area.positions() {
        if pixels.is_some_and(|pixels| pixels.contains(position)) {
            continue;
        }
        let cell = &mut buffer[position];
        if shown(cell.symbol()) != cell.symbol() {
            cell.set_symbol("\u{fffd}");
        }
    }
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn good() -> Style {
    Style::new().fg(Color::Green)
}

fn bad() -> Style {
    Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
}

fn title<'a>(state: &State, look: &Look<'a>) -> Paragraph<'a> {
    let shots = state.total();
    let mut words = format!(
        "{} {shots} shot{} for prompt {} from {}",
        if state.paused { " PAUSED" } else { "" },
        if shots == 1 { "" } else { "s" },
        shown(look.prompt),
        shown(look.source),
    );
    if let Some(drawn) = look
        .snapshot
        .and_then(|snapshot| snapshot.frame.label.as_ref())
    {
        words += &format!(", drawn: {drawn}");
    }
    if let Some(region) = state.regions.looked_at() {
        words += &format!(", region {region}");
    }
    Paragraph::new(words).style(Style::new().add_modifier(Modifier::REVERSED))
}

fn picture(frame: &mut Frame, look: &Look, place: Rect) {
    match (look.pixels, look.picture) {
        (Some((protocol, inside)), _) if place.union(inside) == place => {
            frame.render_widget(Image::new(protocol), inside);
        }
        (_, Some(picture)) => blocks(picture, place, look.depth, frame.buffer_mut()),
        (_, None) => frame.render_widget(Paragraph::new("waiting for the camera ..."), place),
    }
}

fn facts<'a>(state: &'a State, look: &Look<'a>) -> Vec<Line<'a>> {
    let Some(snapshot) = look.snapshot else {
        return Vec::new();
    };
    let (class, score) = snapshot.guess;
    let guess = vec![
        Span::raw("guess "),
        Span::styled(&*state.rows[class].name, bold()),
        Span::raw(format!(" {}", percent(score))),
        Span::styled(format!("  ({})", look.in_use), dim()),
    ];
    let hints = look.hints;
    let filled = (hints.sharpness * 8.0).round().clamp(0.0, 8.0) as usize;
    let bar = format!("sharp {}{}", "■".repeat(filled), "·".repeat(8 - filled));
    let mut about = vec![Span::raw(bar)];
    if hints.blurred {
        about.push(Span::styled("  blurred", bad()));
    }
    if let Some((cosine, class)) = hints.closest {
        let like = format!("  like {} {cosine:.3}", state.rows[class].name);
        about.push(if hints.duplicate {
            Span::styled(format!("{like}: nearly the same"), bad())
        } else {
            Span::styled(like, dim())
        });
    }
    vec![Line::from(guess), Line::from(about)]
}

/// The first of `count` rows to show in `height` so that `selected` is among them.
fn first_shown(count: usize, selected: usize, height: usize) -> usize {
    let half = height / 2;
    selected
        .saturating_sub(half)
        .min(count.saturating_sub(height))
}

fn labels(frame: &mut Frame, state: &State, place: Rect) {
    let height = usize::from(place.height);
    let count = state.rows.len();
    // With more labels than rows the last row says so.
    let shown = if count > height {
        height.saturating_sub(1)
    } else {
        count
    };
    let first = first_shown(count, state.selected, shown);
    let rows = state.rows.iter().enumerate().skip(first).take(shown);
    let mut lines: Vec<Line> = rows
        .map(|(class, row)| label(state, class, row, usize::from(place.width)))
        .collect();
    if count > shown {
        let words = format!("  {}-{} of {count} labels, ↑ ↓", first + 1, first + shown);
        lines.push(Line::styled(words, dim()));
    }
    frame.render_widget(Paragraph::new(lines), place);
}

fn label<'a>(state: &State, class: usize, row: &'a Row, width: usize) -> Line<'a> {
    const BAR: usize = 8;
    let marked = class == state.selected;
    let key = row.key.map_or(String::new(), |key| key.to_string());
    let filled = (row.shots * BAR).div_ceil(ENOUGH_SHOTS).min(BAR);
    let room = width.saturating_sub(4 + 5 + BAR).max(4);
    let count = match row.shots {
        0 => dim(),
        shots if shots >= ENOUGH_SHOTS => good(),
        _ => Style::new(),
    };
    let name_style = if marked { bold() } else { Style::new() };
    Line::from(vec![
        Span::raw(if marked { "▸" } else { " " }),
        Span::styled(format!("{key:1} "), Style::new().fg(Color::Yellow)),
        Span::styled(cut(&row.name, room), name_style),
        Span::styled(format!("{:4} ", row.shots), count),
        Span::styled("■".repeat(filled), count),
    ])
}

/// `text` in exactly `width` columns.
fn cut(text: &str, width: usize) -> String {
    let span = |text: &str| Span::raw(text.to_owned()).width();
    let mut shown = String::new();
    for c in text.chars() {
        shown.push(c);
        if span(&shown) > width {
            shown.pop();
            if span(&shown) == width {
                shown.pop();
            }
            shown.push('…');
            break;
        }
    }
    let missing = width.saturating_sub(span(&shown));
    shown + &" ".repeat(missing)
}

fn message(state: &State) -> Paragraph<'_> {
    let (text, style) = match (&state.stage, &state.message) {
        (Stage::Verdict(verdict), _) => return question(state, verdict),
        (_, Some(message)) if message.bad => (shown(&message.text), bad()),
        (_, Some(message)) => (shown(&message.text), Style::new()),
        (_, None) => ("".into(), Style::new()),
    };
    Paragraph::new(text).style(style).wrap(Wrap { trim: true })
}

fn question<'a>(state: &State, verdict: &Verdict) -> Paragraph<'a> {
    let weakest = verdict.weakest(|class| state.rows[class].shots);
    let weakest = weakest.map_or("the weakest label", |class| &state.rows[class].name);
    let words = if verdict.accepted {
        format!("Keep this prompt (Enter), or take more shots where it is weakest: {weakest} (m)?")
    } else {
        format!(
            "Worse than the plain template. Take more shots of {weakest} (Enter), or keep it all the same (k)?"
        )
    };
    Paragraph::new(words)
        .style(bold())
        .wrap(Wrap { trim: true })
}

fn training(frame: &mut Frame, progress: &Progress, place: Rect) {
    let ratio = progress.done as f64 / progress.of.max(1) as f64;
    let [gauge, detail] =
        Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(place);
    let label = format!("{} {}/{}", progress.what, progress.done, progress.of);
    let bar = LineGauge::default()
        .ratio(ratio.clamp(0.0, 1.0))
        .label(label)
        .filled_symbol("■")
        .unfilled_symbol("·")
        .filled_style(good());
    frame.render_widget(bar, gauge);
    frame.render_widget(Paragraph::new(&*progress.detail).style(dim()), detail);
}

fn keys(state: &State) -> Paragraph<'static> {
    let words = match &state.stage {
        Stage::Training(_) => "Esc cancels".to_owned(),
        Stage::Verdict(_) => "k keep   m more shots   q leave without it".to_owned(),
        Stage::Looking if state.regions.moving => {
            "arrows move it  Shift+arrows w n h l + - resize  x none  Tab next  Enter done"
                .to_owned()
        }
        Stage::Looking if state.burst_armed => {
            "a label's key: 8 shots in 3 seconds   b off".to_owned()
        }
        Stage::Looking => match state.burst_left() {
            Some(left) => format!("burst: {left} to go; any key ends it"),
            None => {
                "key shot  u undo  b burst  space pause  Enter train  ? help  q leave".to_owned()
            }
        },
    };
    Paragraph::new(words).style(dim())
}

/// The verdict, as a table where that fits and as a list of what is mistaken for what otherwise.
fn judged<'a>(state: &State, verdict: &Verdict, place: Rect) -> Vec<Line<'a>> {
    let on = match verdict.holdout_pictures {
        0 => "the training shots (none were held out)".to_owned(),
        count => format!("{count} held-out shots"),
    };
    let style = if verdict.accepted { good() } else { bad() };
    let mut lines = vec![
        Line::raw(format!("accuracy on {on}")),
        Line::from(vec![
            Span::raw(format!(
                "before {}   after ",
                percent(verdict.zero_shot_accuracy)
            )),
            Span::styled(
                percent(verdict.adapted_accuracy),
                style.add_modifier(Modifier::BOLD),
            ),
        ]),
        Line::raw(""),
    ];
    let count = state.rows.len();
    let most = verdict.confusion.iter().flatten().max().copied();
    let column = if most.unwrap_or(0) < 10 { 2 } else { 3 };
    let fits = HEAD + column * count <= usize::from(place.width)
        && lines.len() + count < usize::from(place.height);
    if fits {
        lines.extend(table(state, verdict, column))
    } else {
        lines.extend(mistakes(state, verdict))
    }
    lines
}

/// Columns of a row's key and name in the table.
const HEAD: usize = 14;

fn table<'a>(state: &State, verdict: &Verdict, column: usize) -> Vec<Line<'a>> {
    let keys = state.rows.iter().map(|row| {
        let key = row.key.unwrap_or(' ');
        Span::styled(format!("{key:>column$}"), Style::new().fg(Color::Yellow))
    });
    let corner = Span::styled(cut("shown, named:", HEAD), dim());
    let mut lines = vec![Line::from_iter(std::iter::once(corner).chain(keys))];
    for (shown, (row, named)) in state.rows.iter().zip(&verdict.confusion).enumerate() {
        let key = row.key.unwrap_or(' ');
        let head = [
            Span::styled(format!("{key} "), Style::new().fg(Color::Yellow)),
            Span::raw(cut(&row.name, HEAD - 2)),
        ];
        let cells = named.iter().enumerate().map(|(class, &count)| match count {
            0 => Span::styled(format!("{:>column$}", "·"), dim()),
            _ if class == shown => Span::styled(format!("{count:>column$}"), good()),
            _ => Span::styled(format!("{count:>column$}"), bad()),
        });
        lines.push(Line::from_iter(head.into_iter().chain(cells)));
    }
    lines
}

fn mistakes<'a>(state: &State, verdict: &Verdict) -> Vec<Line<'a>> {
    let mut found: Vec<(usize, usize, usize)> = Vec::new();
    for (shown, row) in verdict.confusion.iter().enumerate() {
        let wrong = row
            .iter()
            .enumerate()
            .filter(|&(named, &count)| named != shown && count > 0);
        found.extend(wrong.map(|(named, &count)| (count, shown, named)));
    }
    if found.is_empty() {
        return vec![Line::styled("all of them are named right", good())];
    }
    found.sort_by_key(|&(count, shown, named)| (std::cmp::Reverse(count), shown, named));
    let name = |class: usize| &state.rows[class].name;
    let line = |&(count, shown, named): &(usize, usize, usize)| {
        Line::raw(format!(
            "{count} x {} taken for {}",
            name(shown),
            name(named)
        ))
    };
    found.iter().map(line).collect()
}

fn help(frame: &mut Frame, place: Rect) {
    const LINES: [&str; 15] = [
        "1-9, a-z  keep the picture as a shot of that label",
        "0         keep it as a shot of the marked label",
        "b, key    8 shots in 3 seconds: move the thing meanwhile",
        "u, ⌫      take the last shot back",
        "Delete    remove the newest shot of the marked label",
        "↑ ↓       mark a label",
        "space     hold the picture still, and on again",
        "Tab       label a region of the picture: arrows move it",
        "Enter     train on all shots; 16 of each label do well",
        "q, Ctrl-C leave; shots are kept",
        "",
        "Show each thing from all sides, near and far, in the",
        "light it will be seen in. \"nearly the same\": a shot",
        "like one that is there already teaches little.",
        "Any key closes this.",
    ];
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(LINES.map(Line::raw).to_vec()), place);
}

#[cfg(test)]
mod tests;
