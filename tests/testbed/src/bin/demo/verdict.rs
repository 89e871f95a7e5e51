//! What was promised, beside what the clients saw.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

use testbed::{LoadReport, Run};

const LEAST_RATE: f64 = 300.0;

struct Row {
    name: &'static str,
    value: String,
    promised: &'static str,
    kept: bool,
}

pub struct Verdict(Vec<Row>);

impl Verdict {
    pub fn of(report: &LoadReport, rollout: &Run) -> Self {
        let mut rows = traffic(report);
        rows.extend(long_lived(report));
        rows.extend(tool(report, rollout));
        Self(rows)
    }

    pub fn passed(&self) -> bool {
        self.0.iter().all(|row| row.kept)
    }

    pub fn table(&self, total: Duration) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_header([
            "what the clients saw",
            "",
            "promised",
            "",
        ]);
        for row in &self.0 {
            table.add_row([
                row.name,
                &row.value,
                row.promised,
                if row.kept { "✓" } else { "✗" },
            ]);
        }
        table.add_row(["total", &format!("{:.1} s", total.as_secs_f64()), "", ""]);
        if let Some(values) = table.column_mut(1) {
            values.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

fn row(name: &'static str, value: impl ToString, promised: &'static str, kept: bool) -> Row {
    Row {
        name,
        value: value.to_string(),
        promised,
        kept,
    }
}

fn traffic(report: &LoadReport) -> Vec<Row> {
    let rate = format!("{} ({:.0}/s)", report.requests, report.rate);
    vec![
        row("requests", rate, "300/s or more", report.rate >= LEAST_RATE),
        row("failed", report.failed, "0", report.failed == 0),
        row(
            "answered by the old after the new",
            report.mixed,
            "0",
            report.mixed == 0,
        ),
        row(
            "longest gap between answers",
            format!("{} ms", report.longest_gap.as_millis()),
            "",
            true,
        ),
        row(
            "99% answered within",
            format!("{:.1} ms", report.p99.as_secs_f64() * 1000.0),
            "",
            true,
        ),
    ]
}

fn long_lived(report: &LoadReport) -> Vec<Row> {
    let mut rows = Vec::new();
    if let Some(slow) = &report.slow {
        let value = format!("{} of {}", slow.requests - slow.failed, slow.requests);
        rows.push(row(
            "3-second requests answered",
            value,
            "all",
            slow.failed == 0,
        ));
        let across = slow.across_cutover;
        rows.push(row(
            "… in flight at the cutover",
            across,
            "some",
            across > 0,
        ));
    }
    let (value, kept) = match &report.websocket {
        Some(socket) if socket.survived_cutover() => (
            format!("{} echoes after it", socket.messages_after_cutover),
            true,
        ),
        Some(_) => ("lost".into(), false),
        None => ("never opened".into(), false),
    };
    rows.push(row("WebSocket across the cutover", value, "open", kept));
    rows
}

fn tool(report: &LoadReport, rollout: &Run) -> Vec<Row> {
    let versions: Vec<&str> = report
        .first_answers
        .iter()
        .map(|(version, _)| version.as_str())
        .collect();
    let cutover = rollout
        .event("finished")
        .and_then(|event| event["cutover_ms"].as_u64());
    let confirmed = cutover.map_or_else(|| "not".into(), |ms| format!("in {ms} ms"));
    let exit = rollout
        .code
        .map_or_else(|| "killed".into(), |code| code.to_string());
    vec![
        row(
            "versions, by first answer",
            versions.join(" → "),
            "v1 → v2",
            versions == ["v1", "v2"],
        ),
        row("cutover confirmed", confirmed, "", cutover.is_some()),
        row("exit code", exit, "0", rollout.code == Some(0)),
    ]
}
