//! Keep by predicate: rows whose number in one column is above a threshold.
//!
//! Invariant: a row that has no number there is dropped, never an error.

use millstream_guest::{Filter, Params, Record, csv, export};

/// Keeps CSV rows where column `column` (from 0) is above `above`.
#[derive(Debug)]
pub struct KeepLate {
    column: usize,
    above: f64,
}

impl Filter for KeepLate {
    fn new(params: &Params) -> Result<Self, String> {
        params.allow_only(&["column", "above"])?;
        let column = params.parse("column")?.unwrap_or(8);
        Ok(Self { column, above: params.parse("above")?.unwrap_or(60.0) })
    }

    fn keep(&mut self, record: &Record<'_>) -> bool {
        let cell = csv::cell(record.value().unwrap_or_default(), self.column);
        cell.and_then(csv::number).is_some_and(|number| number > self.above)
    }
}

export!(KeepLate);

#[cfg(test)]
mod tests {
    use millstream_guest::testing::{filter, run, value};

    use super::KeepLate;

    #[test]
    fn rows_above_the_threshold_are_kept_and_others_dropped() {
        let rows = ["a,61", "b,60", "c,NA", "d", "e,1e3", ""].map(value);
        let keep = filter::<KeepLate>(&[("column", "1")], &["late"]).unwrap();
        let kept: Vec<_> = run(keep, &rows).unwrap().iter().map(|out| out.text()).collect();
        assert_eq!(kept, ["a,61", "e,1e3"]);
    }

    #[test]
    fn a_mistyped_parameter_refuses_the_deployment() {
        let error = filter::<KeepLate>(&[("colum", "1")], &["late"]).unwrap_err();
        assert!(error.contains("`colum`"), "{error}");
    }
}
