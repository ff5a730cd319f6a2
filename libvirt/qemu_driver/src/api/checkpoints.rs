//! Checkpoints and backups. None can be made yet, so no domain has one.

use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error};
use rpc::protocol::checkpoint::*;
use rpc::{ClientContext, Code, Error};

/// `VIR_DOMAIN_CHECKPOINT_LIST_...`: the order, and all filters.
const LIST: u32 = 15;
/// `VIR_DOMAIN_CHECKPOINT_XML_...`.
const XML: u32 = 7;

impl QemuDriver {
    /// Why that checkpoint cannot be had.
    fn no_checkpoint(&self, checkpoint: &DomainCheckpoint) -> Error {
        match self.guest(&checkpoint.dom) {
            Err(error) => error,
            Ok(_) => {
                let detail = format!("no domain checkpoint with matching name '{}'", checkpoint.name);
                error(Code::NoDomainCheckpoint, detail)
            }
        }
    }
}

impl Checkpoints for QemuDriver {
    fn domain_checkpoint_get_xml_desc(
        &self,
        _: &ClientContext,
        args: DomainCheckpointGetXmlDescArgs,
    ) -> Result<DomainCheckpointGetXmlDescRet> {
        self.guest(&args.checkpoint.dom)?;
        check_flags(args.flags, XML, "qemuCheckpointGetXMLDesc")?;
        Err(self.no_checkpoint(&args.checkpoint))
    }

    fn domain_list_all_checkpoints(
        &self,
        _: &ClientContext,
        args: DomainListAllCheckpointsArgs,
    ) -> Result<DomainListAllCheckpointsRet> {
        check_flags(args.flags, LIST, "qemuDomainListAllCheckpoints")?;
        self.guest(&args.dom)?;
        Ok(DomainListAllCheckpointsRet { checkpoints: Vec::new(), ret: 0 })
    }

    fn domain_checkpoint_list_all_children(
        &self,
        _: &ClientContext,
        args: DomainCheckpointListAllChildrenArgs,
    ) -> Result<DomainCheckpointListAllChildrenRet> {
        check_flags(args.flags, LIST, "qemuDomainCheckpointListAllChildren")?;
        Err(self.no_checkpoint(&args.checkpoint))
    }

    fn domain_checkpoint_lookup_by_name(
        &self,
        _: &ClientContext,
        args: DomainCheckpointLookupByNameArgs,
    ) -> Result<DomainCheckpointLookupByNameRet> {
        check_flags(args.flags, 0, "qemuDomainCheckpointLookupByName")?;
        Err(self.no_checkpoint(&DomainCheckpoint { name: args.name, dom: args.dom }))
    }

    fn domain_checkpoint_get_parent(
        &self,
        _: &ClientContext,
        args: DomainCheckpointGetParentArgs,
    ) -> Result<DomainCheckpointGetParentRet> {
        check_flags(args.flags, 0, "qemuDomainCheckpointGetParent")?;
        Err(self.no_checkpoint(&args.checkpoint))
    }

    fn domain_backup_get_xml_desc(
        &self,
        _: &ClientContext,
        args: DomainBackupGetXmlDescArgs,
    ) -> Result<DomainBackupGetXmlDescRet> {
        self.guest(&args.dom)?;
        check_flags(args.flags, 0, "qemuBackupGetXMLDesc")?;
        Err(error(Code::NoDomainBackup, "no domain backup job present"))
    }
}
