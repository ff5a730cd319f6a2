//! Snapshots. None can be made yet, so no domain has one.

use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error};
use rpc::protocol::snapshot::*;
use rpc::{ClientContext, Code, Error};

/// `VIR_DOMAIN_SNAPSHOT_LIST_...`: the order, and all filters.
const LIST: u32 = 0x7ff;
/// `VIR_DOMAIN_SNAPSHOT_XML_SECURE`.
const SECURE: u32 = 1;

impl QemuDriver {
    /// Why that snapshot cannot be had.
    fn no_snapshot(&self, snapshot: &DomainSnapshot) -> Error {
        match self.guest(&snapshot.dom) {
            Err(error) => error,
            Ok(_) => {
                let detail = format!("no domain snapshot with matching name '{}'", snapshot.name);
                error(Code::NoDomainSnapshot, detail)
            }
        }
    }
}

impl Snapshots for QemuDriver {
    fn domain_snapshot_get_xml_desc(
        &self,
        _: &ClientContext,
        args: DomainSnapshotGetXmlDescArgs,
    ) -> Result<DomainSnapshotGetXmlDescRet> {
        check_flags(args.flags, SECURE, "qemuDomainSnapshotGetXMLDesc")?;
        Err(self.no_snapshot(&args.snap))
    }

    fn domain_snapshot_num(
        &self,
        _: &ClientContext,
        args: DomainSnapshotNumArgs,
    ) -> Result<DomainSnapshotNumRet> {
        check_flags(args.flags, LIST, "qemuDomainSnapshotNum")?;
        self.guest(&args.dom)?;
        Ok(DomainSnapshotNumRet { num: 0 })
    }

    fn domain_snapshot_list_names(
        &self,
        _: &ClientContext,
        args: DomainSnapshotListNamesArgs,
    ) -> Result<DomainSnapshotListNamesRet> {
        check_flags(args.flags, LIST, "qemuDomainSnapshotListNames")?;
        self.guest(&args.dom)?;
        Ok(DomainSnapshotListNamesRet { names: Vec::new() })
    }

    fn domain_snapshot_lookup_by_name(
        &self,
        _: &ClientContext,
        args: DomainSnapshotLookupByNameArgs,
    ) -> Result<DomainSnapshotLookupByNameRet> {
        check_flags(args.flags, 0, "qemuDomainSnapshotLookupByName")?;
        Err(self.no_snapshot(&DomainSnapshot { name: args.name, dom: args.dom }))
    }

    fn domain_has_current_snapshot(
        &self,
        _: &ClientContext,
        args: DomainHasCurrentSnapshotArgs,
    ) -> Result<DomainHasCurrentSnapshotRet> {
        check_flags(args.flags, 0, "qemuDomainHasCurrentSnapshot")?;
        self.guest(&args.dom)?;
        Ok(DomainHasCurrentSnapshotRet { result: 0 })
    }

    fn domain_snapshot_current(
        &self,
        _: &ClientContext,
        args: DomainSnapshotCurrentArgs,
    ) -> Result<DomainSnapshotCurrentRet> {
        check_flags(args.flags, 0, "qemuDomainSnapshotCurrent")?;
        self.guest(&args.dom)?;
        Err(error(Code::NoDomainSnapshot, "the domain does not have a current snapshot"))
    }

    fn domain_snapshot_get_parent(
        &self,
        _: &ClientContext,
        args: DomainSnapshotGetParentArgs,
    ) -> Result<DomainSnapshotGetParentRet> {
        check_flags(args.flags, 0, "qemuDomainSnapshotGetParent")?;
        Err(self.no_snapshot(&args.snap))
    }

    fn domain_snapshot_num_children(
        &self,
        _: &ClientContext,
        args: DomainSnapshotNumChildrenArgs,
    ) -> Result<DomainSnapshotNumChildrenRet> {
        check_flags(args.flags, LIST, "qemuDomainSnapshotNumChildren")?;
        Err(self.no_snapshot(&args.snap))
    }

    fn domain_snapshot_list_children_names(
        &self,
        _: &ClientContext,
        args: DomainSnapshotListChildrenNamesArgs,
    ) -> Result<DomainSnapshotListChildrenNamesRet> {
        check_flags(args.flags, LIST, "qemuDomainSnapshotListChildrenNames")?;
        Err(self.no_snapshot(&args.snap))
    }

    fn domain_snapshot_is_current(
        &self,
        _: &ClientContext,
        args: DomainSnapshotIsCurrentArgs,
    ) -> Result<DomainSnapshotIsCurrentRet> {
        check_flags(args.flags, 0, "qemuDomainSnapshotIsCurrent")?;
        Err(self.no_snapshot(&args.snap))
    }

    fn domain_snapshot_has_metadata(
        &self,
        _: &ClientContext,
        args: DomainSnapshotHasMetadataArgs,
    ) -> Result<DomainSnapshotHasMetadataRet> {
        check_flags(args.flags, 0, "qemuDomainSnapshotHasMetadata")?;
        Err(self.no_snapshot(&args.snap))
    }

    fn domain_list_all_snapshots(
        &self,
        _: &ClientContext,
        args: DomainListAllSnapshotsArgs,
    ) -> Result<DomainListAllSnapshotsRet> {
        check_flags(args.flags, LIST, "qemuDomainListAllSnapshots")?;
        self.guest(&args.dom)?;
        Ok(DomainListAllSnapshotsRet { snapshots: Vec::new(), ret: 0 })
    }

    fn domain_snapshot_list_all_children(
        &self,
        _: &ClientContext,
        args: DomainSnapshotListAllChildrenArgs,
    ) -> Result<DomainSnapshotListAllChildrenRet> {
        check_flags(args.flags, LIST, "qemuDomainSnapshotListAllChildren")?;
        Err(self.no_snapshot(&args.snapshot))
    }
}
