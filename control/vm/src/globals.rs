//! `-global`.

use cmdline::Plan;
use qdev::{Global, Globals};

/// The plan's `-global`s.
pub(crate) fn of(plan: &Plan) -> Globals {
    let entry = |global: &cmdline::Global| Global {
        driver: global.driver.clone(),
        property: global.property.clone(),
        value: global.value.clone(),
    };
    Globals::new(plan.globals.iter().map(entry).collect())
}
