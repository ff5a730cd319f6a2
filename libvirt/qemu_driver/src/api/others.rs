//! Topics of which no call is served yet.

use crate::driver::QemuDriver;
use rpc::protocol::migration::Migration;

impl Migration for QemuDriver {}
