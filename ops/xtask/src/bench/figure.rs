//! One measured figure, what it has to reach, and the table of all.
//!
//! Invariant: a figure is never shown without its range over the runs; a ratio is taken within a run.

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Better {
    Higher,
    Lower,
}

/// A figure of one run.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) value: f64,
    pub(super) better: Better,
    /// What it must reach, and what it should.
    pub(super) bars: Option<(f64, f64)>,
    /// What bounds it, in the same unit: the lowest ceiling, or of a time the floor.
    pub(super) bound: Option<f64>,
    /// CPU seconds for 10^9 bytes of values: broker, client.
    pub(super) cpu: Option<(f64, f64)>,
    /// MiB that the broker had at most.
    pub(super) peak_mib: Option<f64>,
}

impl Figure {
    pub(super) fn new(name: &'static str, unit: &'static str, value: f64) -> Self {
        let better = if unit == "ms" || unit == "MiB" { Better::Lower } else { Better::Higher };
        Self { name, unit, value, better, bars: None, bound: None, cpu: None, peak_mib: None }
    }

    pub(super) fn bars(self, must: f64, aim: f64) -> Self {
        Self { bars: Some((must, aim)), ..self }
    }

    pub(super) fn bound(self, bound: f64) -> Self {
        Self { bound: Some(bound), ..self }
    }

    /// How near it comes to what bounds it: 1 is all that can be had.
    fn of_bound(&self) -> Option<f64> {
        self.bound.map(|bound| match self.better {
            Better::Higher => self.value / bound,
            Better::Lower => bound / self.value,
        })
    }
}

const HEAD: &str = "\
| figure | median | range | must / aim | reached | of ceiling | broker CPU s/GB | client CPU s/GB | broker peak MiB |
|---|---|---|---|---|---|---|---|---|
";

/// The runs as a table: each has the same figures in the same order.
pub(super) fn table(runs: &[Vec<Figure>]) -> String {
    let mut table = HEAD.to_owned();
    for (place, first) in runs.first().into_iter().flatten().enumerate() {
        let all: Vec<&Figure> = runs.iter().filter_map(|run| run.get(place)).collect();
        table.push_str(&row(first, &all));
    }
    table
}

fn row(first: &Figure, all: &[&Figure]) -> String {
    let of = |value: &dyn Fn(&Figure) -> Option<f64>| -> Vec<f64> {
        let mut values: Vec<f64> = all.iter().filter_map(|figure| value(figure)).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let values = of(&|figure| Some(figure.value));
    let value = median(&values).unwrap_or_default();
    let shown = |values: &[f64]| median(values).map_or_else(|| "–".to_owned(), number);
    let range = match (values.first(), values.last()) {
        (Some(least), Some(most)) => format!("{} – {}", number(*least), number(*most)),
        _ => "–".to_owned(),
    };
    let (bars, reached) = match first.bars {
        Some((must, aim)) => {
            (format!("{} / {}", number(must), number(aim)), verdict(first.better, value, must, aim))
        }
        None => ("–".to_owned(), "–"),
    };
    format!(
        "| {} | {} {} | {range} | {bars} | {reached} | {} | {} | {} | {} |\n",
        first.name,
        number(value),
        first.unit,
        shown(&of(&Figure::of_bound)),
        shown(&of(&|figure| figure.cpu.map(|(broker, _)| broker))),
        shown(&of(&|figure| figure.cpu.map(|(_, client)| client))),
        shown(&of(&|figure| figure.peak_mib)),
    )
}

fn verdict(better: Better, value: f64, must: f64, aim: f64) -> &'static str {
    let reaches = |bar: f64| match better {
        Better::Higher => value >= bar,
        Better::Lower => value <= bar,
    };
    match (reaches(must), reaches(aim)) {
        (true, true) => "aim",
        (true, false) => "must",
        (false, _) => "no",
    }
}

/// The middle of sorted values; of two, the mean.
fn median(sorted: &[f64]) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    Some((sorted[last / 2] + sorted[last.div_ceil(2)]) / 2.0)
}

/// Three digits or more, as people compare them.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_the_runs_is_judged_and_the_range_is_shown() {
        let run =
            |value| vec![Figure::new("W1", "MB/s", value).bars(650.0, 1_000.0).bound(value * 2.0)];
        let table = table(&[run(600.0), run(900.0), run(700.0)]);
        assert!(
            table.contains("| W1 | 700 MB/s | 600 – 900 | 650 / 1000 | must | 0.50 |"),
            "{table}"
        );
    }

    #[test]
    fn of_a_latency_less_is_better() {
        let run = |value| vec![Figure::new("p50", "ms", value).bars(0.4, 0.25)];
        assert!(table(&[run(0.2)]).contains("| aim |"));
        let near = vec![Figure::new("p50", "ms", 0.4).bound(0.1)];
        assert!(
            table(&[near]).contains("| 0.25 |"),
            "a floor of a quarter is reached to a quarter"
        );
        assert!(table(&[run(0.5)]).contains("| no |"));
    }
}
