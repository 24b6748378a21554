//! The screen of `top`.

use control::EventEntry;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row as Cells, Table};

use super::view::{Kind, Row, View, one_line};

/// Lines of events that are shown at most, with the line above them.
const EVENTS_HEIGHT: u16 = 8;
/// Below so many lines there is room for the table alone.
const LOW: u16 = 14;
/// Between two columns.
const GAP: u16 = 1;

type Column = (&'static str, u16, fn(&Row) -> String);

/// From left to right, with their widths. Those that do not fit are left out from the end; what is left of the width is for notes.
const COLUMNS: [Column; 12] = [
    ("NAME", 16, |row| row.name.clone()),
    ("STATE", 11, |row| row.state.clone()),
    ("SEL", 5, |row| row.selectable.clone()),
    ("REQ/S", 7, |row| of_rates(row, |rates| Some(format!("{:.1}", rates.requests_per_second)))),
    ("ERR %", 6, |row| of_rates(row, |rates| Some(format!("{:.2}", rates.error_rate * 100.0)))),
    ("P50 MS", 7, |row| of_rates(row, |rates| rates.p50.map(|p50| format!("{p50:.1}")))),
    ("P99 MS", 7, |row| of_rates(row, |rates| rates.p99.map(|p99| format!("{p99:.1}")))),
    ("FLIGHT", 6, |row| row.in_flight.to_string()),
    ("CONN", 5, |row| of_rates(row, |rates| Some(rates.connections.to_string()))),
    ("CPU %", 6, |row| row.processors.map_or("-".to_owned(), |used| format!("{:.1}", used * 100.0))),
    ("MEM", 8, |row| row.memory.map_or("-".to_owned(), bytes)),
    ("VERSION", 16, |row| row.version.clone()),
];

fn of_rates(row: &Row, shown: impl Fn(&super::counted::Rates) -> Option<String>) -> String {
    let Some(rates) = &row.rates else { return String::new() };
    shown(rates).unwrap_or_else(|| "-".to_owned())
}

fn bytes(bytes: u64) -> String {
    const MIB: f64 = 1_048_576.0;
    let mib = bytes as f64 / MIB;
    if mib < 1024.0 { format!("{mib:.1}M") } else { format!("{:.1}G", mib / 1024.0) }
}

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, view: &mut View) {
    let area = frame.area();
    let events = if area.height >= LOW { EVENTS_HEIGHT } else { 0 };
    let parts =
        [Constraint::Length(1), Constraint::Fill(1), Constraint::Length(events), Constraint::Length(1)];
    let [head, middle, below, foot] = Layout::vertical(parts).areas(area);
    frame.render_widget(headline(view), head);
    table(frame, view, middle);
    if events > 0 {
        let block = Block::new().borders(Borders::TOP).title("last events");
        let room = usize::from(events - 1);
        let shown = view.events.iter().skip(view.events.len().saturating_sub(room));
        let lines: Vec<_> = shown.map(|event| Line::raw(happened(event))).collect();
        frame.render_widget(Paragraph::new(lines).block(block), below);
    }
    let keys = format!("q quit  sort: n r e l c m (by {})  up/down scroll", view.sort.as_str());
    frame.render_widget(Line::styled(keys, Style::new().add_modifier(Modifier::DIM)), foot);
}

fn headline(view: &View) -> Line<'static> {
    if let Some(why) = &view.away {
        return Line::styled(format!("AWAY: {}", one_line(why)), Style::new().fg(Color::Red));
    }
    let Some(status) = &view.status else { return Line::raw("") };
    let colour = match status.status.as_str() {
        "healthy" => Color::Green,
        "degraded" => Color::Yellow,
        _ => Color::Red,
    };
    let said = format!("{}  gateway {}  pid {}", status.status, status.gateway, status.pid);
    Line::styled(one_line(&said), Style::new().fg(colour))
}

fn table(frame: &mut Frame<'_>, view: &mut View, area: Rect) {
    let rows = view.rows();
    let room = usize::from(area.height.saturating_sub(1));
    view.scrolled = view.scrolled.min(rows.len().saturating_sub(room));
    let (columns, left) = fitting(area.width);
    let shown = rows.iter().skip(view.scrolled).take(room);
    let cells = shown.map(|row| {
        let told = columns.iter().map(|(_, _, told)| Cell::new(told(row)));
        Cells::new(told.chain([Cell::new(row.note.clone())])).style(style(row))
    });
    let widths =
        columns.iter().map(|(_, width, _)| Constraint::Length(*width)).chain([Constraint::Length(left)]);
    let titles = columns.iter().map(|(title, ..)| Cell::new(*title)).chain([Cell::new("NOTE")]);
    let titles = Cells::new(titles).style(Style::new().add_modifier(Modifier::BOLD));
    frame.render_widget(Table::new(cells, widths).header(titles).column_spacing(GAP), area);
}

/// The columns that there is room for, one at least, and what is left.
fn fitting(width: u16) -> (&'static [Column], u16) {
    let mut used = 0;
    let mut fit = 0;
    for (_, own, _) in &COLUMNS {
        if fit > 0 && used + own + GAP > width {
            break;
        }
        (used, fit) = (used + own + GAP, fit + 1);
    }
    (&COLUMNS[..fit], width.saturating_sub(used))
}

fn style(row: &Row) -> Style {
    match row.kind {
        Kind::Service { whole: true } => Style::new().add_modifier(Modifier::BOLD),
        Kind::Service { whole: false } => Style::new().add_modifier(Modifier::BOLD).fg(Color::Yellow),
        Kind::Replica { selectable: true } => Style::new(),
        Kind::Replica { selectable: false } => Style::new().fg(Color::Red),
    }
}

fn happened(event: &EventEntry) -> String {
    let subject = event.replica.as_deref().or(event.service.as_deref()).unwrap_or("serviceos");
    let from = event.from.as_ref().map(|from| format!("{from} -> ")).unwrap_or_default();
    let to = event.to.as_deref().unwrap_or_default();
    let kind = if event.kind == "state" { String::new() } else { format!("{} ", event.kind) };
    let cause = event.cause.as_ref().map(|cause| format!(" ({cause})")).unwrap_or_default();
    one_line(&format!("{:.0}  {subject}  {kind}{from}{to}{cause}", event.time))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use control::EventEntries;
    use expect_test::{Expect, expect};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::*;
    use crate::commands::top::counted::Counted;
    use crate::commands::top::usage::Usage;
    use crate::commands::top::view::{Look, Sort};

    fn look(requests: u64) -> Look {
        let replica = |id: &str, pid: u32, selectable: bool, reason: Option<&str>| {
            json!({
                "id": id, "pid": pid, "state": "Ready", "reason": reason, "since": "", "address": null, "health": "healthy",
                "attestation": "valid", "attested": true, "gate": "open", "selectable": selectable,
                "versionId": "1.0.0-3fa9c1d2", "restarts": 0, "inFlight": 1,
            })
        };
        let service = |name: &str, desired: u32, rollout: Option<&str>, replicas: serde_json::Value| {
            json!({"name": name, "version": "1.0.0", "versionId": "1.0.0-3fa9c1d2", "desired": desired, "ready": 1,
                "rollout": rollout, "replicas": replicas})
        };
        let bad = "exited:\n\u{1b}[31mred";
        let status = json!({
            "status": "degraded", "gateway": "127.0.0.1:8080", "admin": "127.0.0.1:7070", "pid": 4700,
            "store": {"kind": "embedded", "available": true, "reason": null, "stale": null}, "nodes": [],
            "services": [
                service("vrf", 2, Some("10 % to 1.1.0"), json!([replica("vrf/0", 10, true, None), replica("vrf/1", 11, false, Some(bad))])),
                service("web", 1, None, json!([replica("web/0", 12, true, None)])),
            ],
        });
        let event = json!({"id": "a-1", "time": "2026-11-30T17:00:00Z", "service": "vrf", "replica": "vrf/1", "kind": "state",
            "from": "Ready", "to": "Stopped", "cause": "exited", "actor": "supervisor"});
        let page = format!(
            "request_count{{service=\"web\",route=\"/\",method=\"GET\",status=\"200\"}} {requests}\n\
             request_latency_ms_bucket{{service=\"web\",route=\"/\",le=\"10\"}} {requests}\n\
             request_latency_ms_bucket{{service=\"web\",route=\"/\",le=\"+Inf\"}} {requests}\n"
        );
        let used = |processors, mib: u64| Usage { processors: Some(processors), memory: mib << 20 };
        Look {
            status: serde_json::from_value(status).unwrap(),
            counted: Counted::of_page(&page),
            events: EventEntries { events: vec![serde_json::from_value(event).unwrap()] },
            used: [(10, used(0.5, 20)), (11, used(0.25, 1500)), (12, used(0.125, 30))].into(),
        }
    }

    fn view() -> View {
        let (mut view, begin) = (View::default(), Instant::now());
        view.take(begin, look(0));
        view.take(begin + Duration::from_secs(1), look(20));
        view.events.truncate(1);
        view
    }

    fn check(view: &mut View, (width, height): (u16, u16), expected: &Expect) {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view)).unwrap();
        let shown = terminal.backend().to_string();
        let lines = shown.lines().map(|line| line.trim_matches('"').trim_end());
        expected.assert_eq(&lines.collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn it_is_drawn_in_any_room_whatever_was_scrolled_to() {
        for (width, height) in (0..24).flat_map(|width| (0..24).map(move |height| (width, height))) {
            for scrolled in [0, 1, usize::MAX] {
                let mut view = view();
                view.scrolled = scrolled;
                let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
                terminal.draw(|frame| draw(frame, &mut view)).unwrap();
            }
        }
    }

    #[test]
    fn services_and_replicas_have_a_line_each_and_what_a_replica_says_steers_nothing() {
        check(
            &mut view(),
            (130, 18),
            &expect![[r#"
                degraded  gateway 127.0.0.1:8080  pid 4700
                NAME             STATE       SEL   REQ/S   ERR %  P50 MS  P99 MS  FLIGHT CONN  CPU %  MEM      VERSION          NOTE
                vrf              1/2 ready   1/2   0.0     0.00   -       -       2      0     75.0   1.5G     1.0.0-3fa9c1d2   10 % to 1.1.0
                  vrf/0          Ready       yes                                  1            50.0   20.0M    1.0.0-3fa9c1d2
                  vrf/1          Ready       no                                   1            25.0   1.5G     1.0.0-3fa9c1d2   exited: \u{1b}[31m
                web              1/1 ready   1/1   20.0    0.00   5.0     9.9     1      0     12.5   30.0M    1.0.0-3fa9c1d2
                  web/0          Ready       yes                                  1            12.5   30.0M    1.0.0-3fa9c1d2


                last events───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
                2026-11-30T17:00:00Z  vrf/1  Ready -> Stopped (exited)






                q quit  sort: n r e l c m (by name)  up/down scroll"#]],
        );
    }

    #[test]
    fn what_weighs_most_comes_first() {
        let mut view = view();
        view.sort = Sort::Requests;
        check(
            &mut view,
            (70, 8),
            &expect![[r#"
                degraded  gateway 127.0.0.1:8080  pid 4700
                NAME             STATE       SEL   REQ/S   ERR %  P50 MS  P99 MS  NOTE
                web              1/1 ready   1/1   20.0    0.00   5.0     9.9
                  web/0          Ready       yes
                vrf              1/2 ready   1/2   0.0     0.00   -       -       10 %
                  vrf/0          Ready       yes
                  vrf/1          Ready       no                                   exit
                q quit  sort: n r e l c m (by requests)  up/down scroll"#]],
        );
        view.sort = Sort::Memory;
        check(
            &mut view,
            (70, 8),
            &expect![[r#"
                degraded  gateway 127.0.0.1:8080  pid 4700
                NAME             STATE       SEL   REQ/S   ERR %  P50 MS  P99 MS  NOTE
                vrf              1/2 ready   1/2   0.0     0.00   -       -       10 %
                  vrf/1          Ready       no                                   exit
                  vrf/0          Ready       yes
                web              1/1 ready   1/1   20.0    0.00   5.0     9.9
                  web/0          Ready       yes
                q quit  sort: n r e l c m (by memory)  up/down scroll"#]],
        );
    }

    #[test]
    fn a_terminal_of_any_size_shows_what_fits() {
        check(
            &mut view(),
            (30, 5),
            &expect![[r#"
                degraded  gateway 127.0.0.1:80
                NAME             STATE       N
                vrf              1/2 ready   1
                  vrf/0          Ready
                q quit  sort: n r e l c m (by"#]],
        );
        let mut view = view();
        for width in [1, 2, 16, 17, 18, 27, 60, 139] {
            for height in [1, 2, 3, 13, 14, 20] {
                let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
                terminal.draw(|frame| draw(frame, &mut view)).unwrap();
            }
        }
    }

    #[test]
    fn scrolling_ends_with_the_last_row_and_an_up_that_is_away_is_told() {
        let mut view = view();
        view.scrolled = 99;
        view.lose("no serviceos runs on the data directory".to_owned());
        check(
            &mut view,
            (60, 5),
            &expect![[r#"
                AWAY: no serviceos runs on the data directory
                NAME             STATE       SEL   REQ/S   ERR %  P50 MS  NO
                web              1/1 ready   1/1   20.0    0.00   5.0
                  web/0          Ready       yes
                q quit  sort: n r e l c m (by name)  up/down scroll"#]],
        );
        assert_eq!(view.scrolled, 3);
    }
}
