"""Reduced schemas of what other people's programs read.

Written down by hand from their published references, field by field, and only of what
is used here: `additionalProperties` is false throughout, so that a misspelt or moved
field is refused. JobSet: the API reference of jobset.x-k8s.io/v1alpha2 (0.8), with
`batch/v1` and `core/v1` of Kubernetes below its template. SkyPilot: the reference of
its task YAML. They are no copies, and no validator of either project.
"""

import jsonschema


def jobset_errors(document):
    return _errors(_JOBSET, document)


def skypilot_errors(document):
    return _errors(_SKYPILOT, document)


def _errors(schema, document):
    found = jsonschema.Draft202012Validator(schema).iter_errors(document)
    return [f"{error.json_path}: {error.message}" for error in found]


def _object(required=(), **properties):
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items, **more):
    return {"type": "array", "items": items, "minItems": 1, **more}


_TEXT = {"type": "string", "minLength": 1}
_LABEL = {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
_COUNT = {"type": "integer", "minimum": 0}
_BOOL = {"type": "boolean"}
_STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}

_CONTAINER = _object(
    ["name", "image"],
    name=_LABEL,
    image=_TEXT,
    command=_list(_TEXT),
    env=_list(_object(["name"], name=_TEXT, value={"type": "string"})),
    ports=_list(_object(["containerPort"], containerPort=_COUNT)),
    resources=_object(limits={"type": "object", "additionalProperties": _COUNT}),
    volumeMounts=_list(_object(["name", "mountPath"], name=_LABEL, mountPath=_TEXT)),
)
_VOLUME = _object(
    ["name"],
    name=_LABEL,
    persistentVolumeClaim=_object(["claimName"], claimName=_TEXT),
)
_POD = _object(
    ["containers"],
    # With a podFailurePolicy, a Job takes no other.
    restartPolicy={"const": "Never"},
    terminationGracePeriodSeconds=_COUNT,
    nodeSelector=_STRINGS,
    containers=_list(_CONTAINER),
    volumes=_list(_VOLUME),
)
_ON_EXIT_CODES = _object(
    ["operator", "values"],
    containerName=_LABEL,
    operator={"enum": ["In", "NotIn"]},
    values=_list({"type": "integer"}, uniqueItems=True),
)
_POD_FAILURE_RULE = _object(
    ["action"],
    action={"enum": ["FailJob", "FailIndex", "Ignore", "Count"]},
    onExitCodes=_ON_EXIT_CODES,
)
_JOB = _object(
    ["template"],
    completionMode={"enum": ["Indexed", "NonIndexed"]},
    parallelism=_COUNT,
    completions=_COUNT,
    backoffLimit=_COUNT,
    podFailurePolicy=_object(["rules"], rules=_list(_POD_FAILURE_RULE)),
    template=_object(["spec"], spec=_POD),
)
_FAILURE_RULE = _object(
    ["name", "action"],
    name={"type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
    action={
        "enum": ["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"]
    },
    onJobFailureReasons=_list(
        {"enum": ["BackoffLimitExceeded", "DeadlineExceeded", "PodFailurePolicy"]}
    ),
    targetReplicatedJobs=_list(_TEXT),
)
_JOBSET = _object(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
    kind={"const": "JobSet"},
    metadata=_object(["name"], name=_LABEL, labels=_STRINGS, annotations=_STRINGS),
    spec=_object(
        ["replicatedJobs"],
        network=_object(
            enableDNSHostnames=_BOOL, publishNotReadyAddresses=_BOOL, subdomain=_TEXT
        ),
        failurePolicy=_object(maxRestarts=_COUNT, rules=_list(_FAILURE_RULE)),
        replicatedJobs=_list(
            _object(
                ["name", "template"],
                name=_LABEL,
                replicas=_COUNT,
                template=_object(["spec"], spec=_JOB),
            )
        ),
    ),
)
_SKYPILOT = _object(
    name=_TEXT,
    num_nodes={"type": "integer", "minimum": 1},
    resources=_object(
        infra={"type": "string", "pattern": "^[a-z0-9*]+(/.+)?$"},
        accelerators=_TEXT,
        image_id={"type": "string", "pattern": "^docker:"},
        use_spot=_BOOL,
    ),
    envs=_STRINGS,
    file_mounts={
        "type": "object",
        "additionalProperties": {
            "anyOf": [
                _TEXT,
                _object(
                    ["source"],
                    source={"type": "string", "pattern": "^(s3|gs|r2)://"},
                    mode={"enum": ["MOUNT", "COPY", "MOUNT_CACHED"]},
                ),
            ]
        },
    },
    run=_TEXT,
)
