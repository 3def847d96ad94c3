//! Condition: one comparison of a column with a number, such as `arr_delay > 60`.
//!
//! Invariant: a cell that is not a number satisfies no condition.

use crate::row::Row;

#[derive(Debug)]
pub(crate) struct Condition {
    column: usize,
    compare: fn(&f64, &f64) -> bool,
    number: f64,
}

impl Condition {
    /// Parses `COLUMN OPERATOR NUMBER`; `column` finds the place of a name.
    pub(crate) fn parse(
        text: &str,
        column: impl Fn(&str) -> Result<usize, String>,
    ) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let (Some(name), Some(operator), Some(number), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(format!("`where` = `{text}`: write it as COLUMN OPERATOR NUMBER"));
        };
        let compare = match operator {
            ">" => f64::gt,
            ">=" => f64::ge,
            "<" => f64::lt,
            "<=" => f64::le,
            "=" => f64::eq,
            "!=" => f64::ne,
            _ => {
                return Err(format!("`where` = `{text}`: `{operator}` is none of > >= < <= = !="));
            }
        };
        let number = number
            .parse()
            .map_err(|_| format!("`where` = `{text}`: `{number}` is not a number"))?;
        Ok(Self { column: column(name)?, compare, number })
    }

    pub(crate) fn holds(&self, row: &Row<'_>) -> bool {
        row.cell(self.column).parse().is_ok_and(|cell| (self.compare)(&cell, &self.number))
    }
}
