/** Everybody: the capability profiles that the trustees have signed. */
import { encodeProfile, formatHex, sha256 } from "@viafabric/schemas";
import type { FastifyInstance } from "fastify";
import type { AppDependencies } from "../app.ts";
import { HEX_32, list, object, responses, text, WHOLE } from "./fields.ts";

const PROFILE = object(
  {
    capability_profile_id: text(32),
    version: WHOLE,
    title: text(256),
    quotas: { type: "object", additionalProperties: WHOLE },
    sha256: HEX_32,
    status_ages: object({ soft: WHOLE, hard: WHOLE }),
  },
  ["status_ages"],
);
const POLICY = object({ lineage: HEX_32, version: WHOLE, manifest: HEX_32, root: HEX_32 }, [
  "version",
  "manifest",
  "root",
]);

export function capabilityRoutes(app: FastifyInstance, deps: AppDependencies): void {
  app.get(
    "/capabilities",
    {
      schema: {
        summary: "The catalogue of capability profiles, and the policy in force",
        description:
          "What the trustees signed in this version of targets, for convenience: the proof is the TUF repository. " +
          "targets.id is SHA-256 of the signed part, which trustees saw as the id of their proposal.",
        response: responses(
          object(
            {
              authority: HEX_32,
              targets: object({ version: WHOLE, id: HEX_32 }),
              profiles: list(PROFILE, 1024),
              policy: POLICY,
            },
            ["policy"],
          ),
        ),
      },
    },
    async () => {
      const { authority, targetsVersion, ids, profiles, rules, policy } = deps.trust();
      return {
        authority: formatHex(authority),
        targets: { version: targetsVersion, id: formatHex(ids.targets) },
        profiles: [...profiles.values()].map((profile) => {
          const ages = rules.ages.get(profile.id);
          return {
            capability_profile_id: profile.id,
            version: profile.version,
            title: profile.title,
            quotas: Object.fromEntries(profile.quotas),
            sha256: formatHex(sha256(encodeProfile(profile))),
            ...(ages && { status_ages: ages }),
          };
        }),
        ...(policy && {
          policy: {
            lineage: formatHex(policy.lineage),
            ...(policy.bundle && {
              version: policy.bundle.manifest.version,
              manifest: formatHex(policy.bundle.hash),
              root: formatHex(policy.bundle.manifest.root),
            }),
          },
        }),
      };
    },
  );
}
