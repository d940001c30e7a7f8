"""A policy pack of Pulumi: https://www.pulumi.com/docs/iac/packages-and-automation/crossguard/

`pulumi up --policy-pack policy`. policies.py has the policies.
"""

from pulumi_policy import (
    EnforcementLevel,
    PolicyPack,
    ReportViolation,
    ResourceValidation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
)

from policies import POLICIES, Policy, Resource


def _validation(policy: Policy) -> ResourceValidation:
    def validate(args: ResourceValidationArgs, report_violation: ReportViolation) -> None:
        # urn:pulumi:<stack>::<project>::<type>::<name>
        stack = args.urn.split("::")[0].rpartition(":")[2]
        for line in policy.check(Resource(args.resource_type, stack, args.props, bool(args.opts.protect))):
            report_violation(line, None)

    return validate


PolicyPack(
    name="wsgi-ecs",
    enforcement_level=EnforcementLevel.MANDATORY,
    policies=[
        ResourceValidationPolicy(name=policy.name, description=policy.description, validate=_validation(policy))
        for policy in POLICIES
    ],
)
