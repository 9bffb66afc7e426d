/** The signer as the sequencer uses it: a connection that broke is made again for the next question. */
import { connect, type SignerClient, type Unfinished } from "@viafabric/hsm/signer";
import { OperationError } from "@viafabric/schemas";

/**
 * Connects at once. A question that was under way when the connection broke fails; whether the signer has answered it
 * nobody knows, and the sequencer begins again from what is published.
 * @throws OperationError ERR_SIGNER when nobody listens there
 */
export async function signerLink(socketPath: string): Promise<SignerClient> {
  const unfinished: Unfinished = {};
  let current: Promise<SignerClient> | undefined = connect(socketPath, unfinished);
  await current;
  const ask = async <Result>(question: (client: SignerClient) => Promise<Result>): Promise<Result> => {
    current ??= connect(socketPath, unfinished);
    try {
      return await question(await current);
    } catch (error) {
      if (error instanceof OperationError && error.code === "ERR_SIGNER") current = undefined;
      throw error;
    }
  };
  return {
    state: () => ask((client) => client.state()),
    trust: (request) => ask((client) => client.trust(request)),
    tokens: (request) => ask((client) => client.tokens(request)),
    append: (request) => ask((client) => client.append(request)),
    statement: (options) => ask((client) => client.statement(options)),
    metadata: (request) => ask((client) => client.metadata(request)),
    transcript: (bytes) => ask((client) => client.transcript(bytes)),
    async close() {
      const client = await current?.catch(() => undefined);
      await client?.close();
    },
  };
}
