//! What came out, beside what had to.
//!
//! Invariant: a record counts only if its key is the carrier in its value, and all records of one
//! carrier have to lie in one partition.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::expected::Expected;

/// The records of one carrier.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Carrier {
    count: u64,
    partitions: BTreeSet<u64>,
    worst: i64,
}

/// What one run gave.
pub(super) struct Outcome {
    /// Rows that were streamed.
    pub(super) rows: u64,
    /// From the first row until the last was acknowledged.
    pub(super) produced: Duration,
    /// From the first row until the job had read the last.
    pub(super) filtered: Duration,
    /// What the job wrote.
    pub(super) late: BTreeMap<String, Carrier>,
}

/// Counts records as `consume --format json` prints them.
pub(super) fn gather(records: &[Value]) -> Result<BTreeMap<String, Carrier>> {
    let mut late = BTreeMap::<String, Carrier>::new();
    for record in records {
        let key = record["key"].as_str().with_context(|| format!("no key in {record}"))?;
        let value = match &record["value"] {
            Value::String(text) => serde_json::from_str(text)
                .with_context(|| format!("the filter wrote no JSON: {record}"))?,
            value => value.clone(),
        };
        ensure!(value["carrier"] == key, "the key is not the carrier: {record}");
        let delay = value["arr_delay"].as_i64();
        let delay = delay.with_context(|| format!("no arr_delay in {record}"))?;
        ensure!(delay > 60, "not late: {record}");
        let partition = record["partition"].as_u64();
        let carrier = late.entry(key.to_owned()).or_default();
        carrier.count += 1;
        carrier.worst = carrier.worst.max(delay);
        carrier.partitions.insert(partition.with_context(|| format!("no partition: {record}"))?);
    }
    Ok(late)
}

impl Outcome {
    /// A row for each carrier.
    pub(super) fn table(&self, expected: &Expected) -> String {
        let mut table = String::new();
        let line = |table: &mut String, cells: [&str; 6]| {
            let [a, b, c, d, e, f] = cells;
            writeln!(table, "{a:<8} {b:>8} {c:>9} {d:>10} {e:>14}  {f}")
                .expect("a string takes all text");
        };
        line(&mut table, ["CARRIER", "LATE", "EXPECTED", "PARTITION", "WORST (MIN)", ""]);
        for (name, count) in expected.carriers {
            let none = Carrier::default();
            let found = self.late.get(name).unwrap_or(&none);
            let partitions: Vec<_> = found.partitions.iter().map(u64::to_string).collect();
            let verdict = if found.is(count) { "ok" } else { "WRONG" };
            let (late, worst) = (found.count.to_string(), found.worst.to_string());
            let partitions = partitions.join(",");
            line(&mut table, [name, &late, &count.to_string(), &partitions, &worst, verdict]);
        }
        let (found, expected) = (self.total().to_string(), expected.late.to_string());
        line(&mut table, ["all", &found, &expected, "", "", ""]);
        table
    }

    /// How fast it went, from outside.
    pub(super) fn speed(&self) -> String {
        let rate = |took: Duration| (self.rows as f64 / took.as_secs_f64().max(1e-9)).round();
        format!(
            "{} rows: acknowledged in {:.2} s ({} rows/s), through the filter in {:.2} s ({} rows/s), \
             process starts and polling included",
            self.rows,
            self.produced.as_secs_f64(),
            rate(self.produced),
            self.filtered.as_secs_f64(),
            rate(self.filtered),
        )
    }

    /// Whether exactly what was expected came out.
    pub(super) fn check(&self, expected: &Expected) -> Result<()> {
        let known = |name: &str| expected.carriers.iter().any(|(carrier, _)| *carrier == name);
        if let Some(name) = self.late.keys().find(|name| !known(name)) {
            bail!("carrier {name} came out, and there is none of that name");
        }
        for (name, count) in expected.carriers {
            let found = self.late.get(name);
            ensure!(
                found.is_some_and(|found| found.is(count)),
                "carrier {name}: {count} late flights in one partition were expected, not {found:?}"
            );
        }
        ensure!(
            self.total() == expected.late,
            "{} late flights, not {}",
            self.total(),
            expected.late
        );
        println!("every count is as expected");
        Ok(())
    }

    fn total(&self) -> u64 {
        self.late.values().map(|carrier| carrier.count).sum()
    }
}

impl Carrier {
    fn is(&self, count: u64) -> bool {
        self.count == count && self.partitions.len() == 1
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::expected::JANUARY;
    use super::*;

    fn record(carrier: &str, partition: u64) -> Value {
        let value = json!({ "carrier": carrier, "arr_delay": 61 }).to_string();
        json!({ "partition": partition, "offset": 0, "key": carrier, "value": value })
    }

    fn january() -> Vec<Value> {
        let each = JANUARY.carriers.into_iter();
        each.flat_map(|(name, count)| (0..count).map(|_| record(name, 1))).collect()
    }

    fn outcome(records: &[Value]) -> Outcome {
        let took = Duration::from_secs(2);
        Outcome { rows: 27_004, produced: took, filtered: took, late: gather(records).unwrap() }
    }

    #[test]
    fn exactly_the_expected_records_pass() {
        let outcome = outcome(&january());
        outcome.check(&JANUARY).unwrap();
        assert!(!outcome.table(&JANUARY).contains("WRONG"));
        assert!(outcome.speed().contains("13502 rows/s"), "{}", outcome.speed());
    }

    #[test]
    fn one_record_too_few_or_too_many_fails() {
        let mut records = january();
        records.push(record("UA", 1));
        assert!(outcome(&records).check(&JANUARY).is_err());
        records.truncate(records.len() - 2);
        assert!(outcome(&records).check(&JANUARY).is_err());
        assert!(outcome(&records).table(&JANUARY).contains("WRONG"));
    }

    #[test]
    fn a_carrier_in_two_partitions_fails() {
        let mut records = january();
        records[0]["partition"] = json!(2);
        assert!(outcome(&records).check(&JANUARY).is_err());
    }

    #[test]
    fn an_unknown_carrier_fails() {
        let mut records = january();
        records.push(record("ZZ", 0));
        assert!(outcome(&records).check(&JANUARY).is_err());
    }

    #[test]
    fn a_record_that_should_not_have_come_out_fails() {
        let early = json!({ "carrier": "UA", "arr_delay": 60 });
        assert!(gather(&[json!({ "partition": 0, "key": "UA", "value": early })]).is_err());
        let other = json!({ "carrier": "UA", "arr_delay": 99 });
        assert!(gather(&[json!({ "partition": 0, "key": "AA", "value": other })]).is_err());
    }
}
