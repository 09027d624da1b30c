//! The screen: what is drawn where, in whatever size the terminal has. Pure.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::told::{Node, Source, Told};
use super::view::{Shown, View};
use crate::cli::plot::{Canvas, Ink};
use crate::cli::{devices, status};
use crate::limits::TOP_ALARM_LINES_ONE_OF;
use crate::printable;
use crate::table::moment::Zone;

/// Columns of the data nodes on a terminal of 80: a name and the four beside it.
const NODES_COLUMNS: u16 = 43;
const NODE_NAME: usize = 9;

/// Columns of how many records a data node keeps: there is room for it on wider terminals.
const RECORDS_COLUMNS: usize = 6;

/// Columns of the sources there.
const SOURCES_COLUMNS: u16 = 36;
const SOURCE_NAME: usize = 11;

/// Age, period and the spaces of a source.
const SOURCE_REST: usize = 12;

const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const HEADING: Style = Style::new().add_modifier(Modifier::BOLD);
const FAINT: Style = Style::new().add_modifier(Modifier::DIM);

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, told: &Told, view: &View) {
    let area = frame.area();
    let alarms = alarm_lines(&told.alarms, area);
    // The title, the rate, the line over the alarms, and the keys.
    let body = area.height.saturating_sub(4 + alarms.len() as u16);
    let mut rows = Rows { frame, area };
    rows.line(0, &told.title, HEADING);
    rows.line(1, &told.rate, Style::new());
    let below = 2 + body;
    match &view.curve {
        Some(shown) => curve(&mut rows, Rect { y: area.y + 2, height: body, ..area }, told, shown),
        None => lists(&mut rows, Rect { y: area.y + 2, height: body, ..area }, told, view),
    }
    let heading = if told.alarms.is_empty() { "ALARMS  none" } else { "ALARMS" };
    rows.line(below, heading, if told.alarms.is_empty() { HEADING } else { BAD });
    for (line, y) in alarms.iter().zip(below + 1..) {
        rows.line(y, line, BAD);
    }
    rows.line(area.height.saturating_sub(1), &keys(view), FAINT);
}

/// Lines of the screen, each cut where it ends.
struct Rows<'a, 'b> {
    frame: &'a mut Frame<'b>,
    area: Rect,
}

impl Rows<'_, '_> {
    fn line(&mut self, y: u16, text: &str, style: Style) {
        self.part(Rect { x: self.area.x, y: self.area.y + y, width: self.area.width, height: 1 }, text, style);
    }

    fn part(&mut self, place: Rect, text: &str, style: Style) {
        if place.y < self.area.bottom() {
            let text = cut(text, usize::from(place.width));
            self.frame.render_widget(Line::styled(text, style), place);
        }
    }
}

fn keys(view: &View) -> String {
    let filter = printable::visible(&view.filter);
    if view.is_filtering {
        return format!("filter: {filter}_   enter: keep it   esc: all sources");
    }
    if view.curve.is_some() {
        return "esc: back   q: end".to_owned();
    }
    let filter = if filter.is_empty() { "/: filter".to_owned() } else { format!("/: filter ({filter})") };
    format!("up, down: choose   enter: curve   s: order ({})   {filter}   q: end", view.order.name())
}

/// The alarms in lines as wide as the screen, and no more than a part of it.
fn alarm_lines(alarms: &[String], area: Rect) -> Vec<String> {
    let most = usize::from(area.height / TOP_ALARM_LINES_ONE_OF).max(1);
    let (mut lines, mut shown) = (Vec::new(), 0);
    for alarm in alarms {
        let more = wrap(alarm, usize::from(area.width));
        // One line is kept for how many more there are.
        let room = most - usize::from(shown + 1 < alarms.len());
        if lines.len() + more.len() > room {
            break;
        }
        lines.extend(more);
        shown += 1;
    }
    if shown < alarms.len() {
        lines.truncate(most - 1);
        lines.push(match alarms.get(shown) {
            // The worst is told, as far as there is room.
            Some(first) if shown == 0 => first.clone(),
            _ => format!("and {} more", alarms.len() - shown),
        });
    }
    lines
}

/// A text in lines of so many columns, broken between words; what follows the first is set in.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && width(&line) + 1 + width(word) > columns {
            lines.push(std::mem::replace(&mut line, format!("  {word}")));
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

fn lists(rows: &mut Rows<'_, '_>, area: Rect, told: &Told, view: &View) {
    let spare = area.width.saturating_sub(NODES_COLUMNS + 1 + SOURCES_COLUMNS);
    let nodes = Rect { width: (NODES_COLUMNS + spare / 4).min(area.width), ..area };
    let left = nodes.right() + 1;
    let sources = Rect { x: left, width: area.right().saturating_sub(left), ..area };
    draw_nodes(rows, nodes, &told.nodes);
    draw_sources(rows, sources, told, view);
}

fn draw_nodes(rows: &mut Rows<'_, '_>, area: Rect, nodes: &[Node]) {
    let more = usize::from(area.width.saturating_sub(NODES_COLUMNS));
    let records_columns = if more >= RECORDS_COLUMNS { RECORDS_COLUMNS } else { 0 };
    let name = NODE_NAME + more - records_columns;
    let row = |first: &str, state: &str, numbers: [&str; 4]| {
        let [syncs, written, free, records] = numbers;
        let (first, state, records) = (left(first, name), left(state, 11), right(records, records_columns));
        format!("{first} {state} {} {} {}{records}", right(syncs, 5), right(written, 7), right(free, 7))
    };
    let titles = row("NODE", "STATE", ["SYN/S", "B/DAY", "FREE", "RECS"]);
    rows.part(Rect { height: 1, ..area }, &titles, HEADING);
    let room = usize::from(area.height.saturating_sub(1));
    // The last line says how many more there are.
    let shown = if nodes.len() > room { room.saturating_sub(1) } else { nodes.len() };
    let mut y = area.y + 1;
    for node in nodes.iter().take(shown) {
        let text = match &node.away_since {
            Some(since) => format!("{} away since {since}", left(&node.name, name)),
            None => {
                let pace = node.syncs.map_or_else(|| "-".to_owned(), |syncs| format!("{syncs:.1}"));
                let written = node.written.map_or_else(|| "-".to_owned(), |bytes| status::bytes(bytes as u64));
                let free = node.free.map_or_else(|| "-".to_owned(), status::bytes);
                row(&node.name, &node.state, [&pace, &written, &free, &count(node.records)])
            }
        };
        rows.part(Rect { y, height: 1, ..area }, &text, if node.is_well { Style::new() } else { BAD });
        y += 1;
    }
    if shown < nodes.len() && room > 0 {
        rows.part(Rect { y, height: 1, ..area }, &format!("and {} more", nodes.len() - shown), FAINT);
    }
}

fn draw_sources(rows: &mut Rows<'_, '_>, area: Rect, told: &Told, view: &View) {
    let sources = view.sources(told);
    let name = SOURCE_NAME + usize::from(area.width.saturating_sub(SOURCES_COLUMNS)) / 3;
    let value = usize::from(area.width).saturating_sub(name + SOURCE_REST);
    let row = |first: &str, said: &str, age: &str, period: &str| {
        format!("{} {} {} {}", left(first, name), left(said, value), right(age, 4), right(period, 5))
    };
    let titles = row("SOURCE", "LAST", "AGE", "EVERY");
    rows.part(Rect { height: 1, ..area }, &titles, HEADING);
    let room = usize::from(area.height.saturating_sub(1));
    let chosen = view.place(&sources);
    let first = first_shown(sources.len(), chosen, room);
    for ((place, source), y) in sources.iter().enumerate().skip(first).take(room).zip(area.y + 1..) {
        let age = source.heard_s.map_or_else(|| "-".to_owned(), |heard| devices::short(heard as f64));
        let period = source.period_s.map_or_else(|| "-".to_owned(), devices::short);
        let style = if source.is_silent || source.is_out { BAD } else { Style::new() };
        let style = if place == chosen { style.add_modifier(Modifier::REVERSED) } else { style };
        rows.part(Rect { y, height: 1, ..area }, &row(&source.name, &source.said, &age, &period), style);
    }
    if sources.is_empty() && room > 0 {
        let why = if told.sources.is_empty() { "no source has said its name" } else { "none with the filter" };
        rows.part(Rect { y: area.y + 1, height: 1, ..area }, why, FAINT);
    }
}

/// The first of so many sources that is shown, so that the chosen one stands in the middle as far as it can.
const fn first_shown(all: usize, chosen: usize, room: usize) -> usize {
    let first = chosen.saturating_sub(room / 2);
    let last_first = all.saturating_sub(room);
    if first < last_first { first } else { last_first }
}

fn curve(rows: &mut Rows<'_, '_>, area: Rect, told: &Told, shown: &Shown) {
    let source: Option<&Source> = told.sources.iter().find(|source| source.id == shown.source);
    let said = source.map_or_else(String::new, |source| {
        let age = source.heard_s.map_or_else(String::new, |heard| format!("  {} ago", devices::short(heard as f64)));
        format!("{}  {}{age}", source.name, source.said)
    });
    rows.part(Rect { height: 1, ..area }, &said, HEADING);
    let text = match &shown.read {
        None => "reading the last hour".to_owned(),
        Some(Err(cause)) => format!("cannot read its last hour: {}", printable::visible(cause)),
        Some(Ok((curve, every))) => {
            // The last message, the title and the times of the ends, and the floor.
            let height = usize::from(area.height).saturating_sub(4).max(2);
            let canvas = Canvas { columns: usize::from(area.width), rows: height, ink: Ink::Braille };
            let drawn = curve.draw(canvas, &Zone::utc(), None, *every);
            drawn.unwrap_or_else(|| "no message of the last hour has a number".to_owned())
        }
    };
    for (line, y) in text.lines().take(usize::from(area.height.saturating_sub(1))).zip(area.y + 1..) {
        rows.part(Rect { y, height: 1, ..area }, &printable::visible(line), Style::new());
    }
}

/// A number in five characters.
fn count(number: u64) -> String {
    let units = ["", "k", "M", "G", "T", "P"];
    let (mut value, mut unit) = (number as f64, units.iter());
    let mut name = unit.next();
    while value >= if name == units.first() { 99_999.5 } else { 999.5 } && unit.len() > 0 {
        value /= 1000.0;
        name = unit.next();
    }
    let digits = usize::from(name != units.first() && value < 99.95);
    format!("{value:.digits$}{}", name.copied().unwrap_or_default())
}

/// Columns that a text takes.
fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// A text in so many columns at most; … says that there is more.
fn cut(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let (mut out, mut used) = (String::new(), 1);
    for c in text.chars() {
        used += width(c.encode_utf8(&mut [0; 4]));
        if used > room {
            break;
        }
        out.push(c);
    }
    if room > 0 { out + "…" } else { out }
}

fn left(text: &str, room: usize) -> String {
    let text = cut(text, room);
    let pad = room.saturating_sub(width(&text));
    text + &" ".repeat(pad)
}

fn right(text: &str, room: usize) -> String {
    let text = cut(text, room);
    " ".repeat(room.saturating_sub(width(&text))) + &text
}
