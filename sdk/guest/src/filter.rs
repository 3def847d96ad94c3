//! Filter: what the author of a module writes.
//!
//! Invariant: a filter sees every record of its input once, in order, and nothing else.

use crate::{Output, Params, Record};

/// A transformation of records.
///
/// It must be deterministic: the same records with the same parameters give the same output. What it remembers from one
/// record to the next may be lost at any time (after a trap, a restart, or a move), so that it may only be a cache.
pub trait Filter: Sized + 'static {
    /// Makes the filter from the job's parameters, once, before any record.
    ///
    /// # Errors
    /// Whatever is wrong with the parameters: it refuses the deployment, and the operator reads it.
    fn new(params: &Params) -> Result<Self, String>;

    /// Whether to keep the record, unchanged. The default keeps everything.
    fn keep(&mut self, record: &Record<'_>) -> bool {
        let _ = record;
        true
    }

    /// Says what becomes of the record: nothing (it is dropped), [`Output::keep`],
    /// [`Output::forward`] or [`Output::emit`], as often as needed. The default asks [`Filter::keep`].
    ///
    /// # Errors
    /// What is wrong with this record. Nothing of the batch is then output, and the job's error policy decides.
    fn process(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), String> {
        if self.keep(record) {
            out.keep();
        }
        Ok(())
    }
}

/// Exports a [`Filter`] as this component's module. Once per crate; it does nothing outside
/// WebAssembly, so that the same crate builds and tests natively.
#[macro_export]
macro_rules! export {
    ($filter:ty) => {
        const _: fn() = || {
            fn is_a_filter<F: $crate::Filter>() {}
            is_a_filter::<$filter>();
        };

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use ::std::{cell::RefCell, string::String, vec::Vec};
            use $crate::bindings::exports::millstream::module::transform;

            ::std::thread_local! {
                static DRIVER: RefCell<Option<$crate::Driver<$filter>>> = const { RefCell::new(None) };
            }

            struct Module;

            impl transform::Guest for Module {
                fn init(params: Vec<(String, String)>, outputs: Vec<String>) -> Result<(), String> {
                    let driver = $crate::Driver::new(&$crate::Params::new(params, outputs))?;
                    DRIVER.set(Some(driver));
                    Ok(())
                }

                fn process(
                    batch: transform::BatchInfo,
                    records: Vec<u8>,
                ) -> Result<transform::Verdict, transform::Refusal> {
                    DRIVER.with_borrow_mut(|driver| {
                        let driver = driver.as_mut().expect("the broker calls init first");
                        driver.process(batch.into(), &records).map(Into::into).map_err(Into::into)
                    })
                }
            }

            $crate::bindings::export!(Module with_types_in $crate::bindings);
        };
    };
}
