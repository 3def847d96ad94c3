//! Page: metrics as text, in Prometheus' exposition format 0.0.4.
//!
//! Invariant: the samples of a family stand together, under its name, in the order of the list.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use super::families::{self, Family};
use super::instruments::Distribution;

/// Collects samples.
#[derive(Debug, Default)]
pub(crate) struct Page {
    samples: BTreeMap<&'static str, String>,
}

impl Page {
    /// One value. Labels are given in the order of the family's.
    pub(crate) fn value(&mut self, family: &Family, labels: &[&str], value: impl Display) {
        self.sample(family, "", &pairs(family, labels), value);
    }

    /// One histogram.
    pub(crate) fn histogram(&mut self, family: &Family, labels: &[&str], of: &Distribution) {
        let own = pairs(family, labels);
        let comma = if own.is_empty() { "" } else { "," };
        let mut below = 0;
        let bounds = of.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(&of.counts) {
            below += count;
            self.sample(family, "_bucket", &format!("{own}{comma}le=\"{bound}\""), below);
        }
        self.sample(family, "_sum", &own, of.sum);
        self.sample(family, "_count", &own, below);
    }

    /// The whole text.
    pub(crate) fn finish(self) -> String {
        let mut text = String::new();
        for family in families::ALL {
            if let Some(samples) = self.samples.get(family.name) {
                let Family { name, kind, help, .. } = family;
                let kind = kind.name();
                writes(writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{samples}"));
            }
        }
        text
    }

    fn sample(&mut self, family: &Family, suffix: &str, labels: &str, value: impl Display) {
        let (name, samples) = (family.name, self.samples.entry(family.name).or_default());
        writes(match labels {
            "" => writeln!(samples, "{name}{suffix} {value}"),
            labels => writeln!(samples, "{name}{suffix}{{{labels}}} {value}"),
        });
    }
}

fn writes(written: std::fmt::Result) {
    written.expect("memory takes text");
}

fn pairs(family: &Family, values: &[&str]) -> String {
    assert!(family.labels.len() == values.len(), "{}: a value for each label", family.name);
    let pairs = family.labels.iter().zip(values);
    let pair = |(label, value): (&&str, &&str)| format!("{label}=\"{}\"", escaped(value));
    pairs.map(pair).collect::<Vec<_>>().join(",")
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_stand_under_their_family_and_histograms_add_up() {
        let mut page = Page::default();
        page.value(families::LOG_STOPPED, &["b", "1"], 0);
        page.value(families::CONNECTIONS, &[], 3);
        page.value(families::LOG_STOPPED, &["a\"\\\n", "0"], 1);
        let of = Distribution { bounds: vec![0.5, 2.0], counts: vec![1, 2, 4], sum: 9.5 };
        page.histogram(families::REQUEST_SECONDS, &["list"], &of);
        let expected = r#"# HELP millstream_connections open client connections
# TYPE millstream_connections gauge
millstream_connections 3

# HELP millstream_request_seconds time to answer a control call
# TYPE millstream_request_seconds histogram
millstream_request_seconds_bucket{request="list",le="0.5"} 1
millstream_request_seconds_bucket{request="list",le="2"} 3
millstream_request_seconds_bucket{request="list",le="+Inf"} 7
millstream_request_seconds_sum{request="list"} 9.5
millstream_request_seconds_count{request="list"} 7

# HELP millstream_log_stopped 1 when the log takes no more writes
# TYPE millstream_log_stopped gauge
millstream_log_stopped{topic="b",partition="1"} 0
millstream_log_stopped{topic="a\"\\\n",partition="0"} 1

"#;
        assert_eq!(page.finish(), expected);
    }
}
