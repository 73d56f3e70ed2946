//! Creates objects.

use serde_json::Value;

use super::commit::{Effect, Refused};
use super::{Call, Objects, Review, Said, Written, meta, schema_of};
use crate::api::meta::{MetaMut, generate_name, now};
use crate::api::{Meta, Status};
use crate::server::admission::Operation;
use crate::server::patch::managed;
use crate::server::registry::Storage;
use crate::store::Expect;

/// So many names are generated before a create gives up.
const NAMES_TRIED: usize = 8;

impl Objects {
    /// Creates an object from a value that is decoded and checked against the kind's schema.
    ///
    /// # Errors
    /// 400, 403, 409 or 422 for the client; 500 and 507 when the store failed.
    pub async fn create(&self, call: &Call<'_>, object: Value) -> Result<Written, Status> {
        self.create_with(call, object, false).await
    }

    /// As [`Objects::create`]; an object that is `owned` has its managed fields already, as an apply makes them.
    pub(super) async fn create_with(
        &self,
        call: &Call<'_>,
        mut object: Value,
        owned: bool,
    ) -> Result<Written, Status> {
        call.resource.settle(&mut object)?;
        meta::begin_create(call, &mut object)?;
        let name = Meta::of(&object).name().to_owned();
        let review = Review::new(call, Operation::Create, None, &name);
        let mut said = Said::default();
        self.mutate(call, &review, Some(&mut object), None, &mut said).await?;
        meta::complete_create(call, &mut object)?;
        let generated = Meta::of(&object).name().is_empty() && !Meta::of(&object).generate_name().is_empty();
        for _ in 1..NAMES_TRIED {
            match self.create_named(call, object.clone(), generated, owned, said.clone()).await {
                Err(Refused::Conflict) if generated => {}
                Err(refused) => return Err(self.why_not_created(call, &object, refused)),
                Ok(written) => return Ok(written),
            }
        }
        match self.create_named(call, object.clone(), generated, owned, said).await {
            Ok(written) => Ok(written),
            Err(Refused::Conflict) if generated => {
                let prefix = Meta::of(&object).generate_name();
                Err(Status::generate_name_conflict(&call.resource.group_resource(), prefix))
            }
            Err(refused) => Err(self.why_not_created(call, &object, refused)),
        }
    }

    fn why_not_created(&self, call: &Call<'_>, object: &Value, refused: Refused) -> Status {
        match refused {
            Refused::Failed(status) => status,
            Refused::Conflict => {
                Status::already_exists(&call.resource.group_resource(), Meta::of(object).name())
            }
        }
    }

    async fn create_named(
        &self,
        call: &Call<'_>,
        mut object: Value,
        generated: bool,
        owned: bool,
        mut said: Said,
    ) -> Result<Written, Refused> {
        if generated {
            let name = generate_name(Meta::of(&object).generate_name());
            MetaMut::of(&mut object).set_name(&name);
        }
        let name = Meta::of(&object).name().to_owned();
        let review = Review::new(call, Operation::Create, None, &name);
        let failed = Refused::Failed;
        let strategy = &call.resource.strategy;
        strategy.prepare_create(&self.context(call), &mut object).map_err(failed)?;
        if let Err(status) = self.check_new(call, &review, &mut object, &mut said).await {
            strategy.rollback(&object);
            return Err(Refused::Failed(status));
        }
        if !owned {
            let (manager, version) = (&call.options.field_manager, call.resource.api_version());
            let schema = schema_of(call.resource).map_err(failed)?;
            managed::track_update(&schema, None, &mut object, manager, &version, "", &now());
        }
        let Said { mut warnings, notices } = said;
        warnings.extend(strategy.warnings(&object));
        if call.options.dry_run {
            strategy.rollback(&object);
            let taken = self.kind(call.resource).map_err(failed)?.get(call.namespace, &name).is_some();
            if taken {
                return Err(Refused::Conflict);
            }
            self.afford(call, Effect { review, new: Some(&mut object), old: None })?;
            return Ok(Written { bytes: object.to_string().into(), created: true, warnings });
        }
        let effect = Effect { review, new: Some(&mut object), old: None };
        match self.put(call, effect, Expect::Absent).await {
            Ok(bytes) => {
                self.record(call, &object, &notices).await;
                Ok(Written { bytes, created: true, warnings })
            }
            Err(refused) => {
                strategy.rollback(&object);
                Err(refused)
            }
        }
    }

    async fn check_new(
        &self,
        call: &Call<'_>,
        review: &Review<'_>,
        object: &mut Value,
        said: &mut Said,
    ) -> Result<(), Status> {
        let mut errors = meta::validate(call, object);
        errors.extend(call.resource.strategy.validate_create(&self.context(call), object));
        if let Storage::View(view) = call.entry.storage {
            (view.validate)(object, None, &mut errors);
        }
        if !errors.is_empty() {
            return Err(Status::invalid(&call.resource.group_kind(), review.name, &errors));
        }
        self.validate(call, review, Some(object), None, said).await
    }
}
