package main

import (
	"encoding/base64"
	"encoding/json"
	"net"
	"os"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// serveAgent is the ssh-agent that litewitness asks for its key, with one key made from a seed. It prints the key's
// fingerprint once it listens, and serves until it is ended.
func serveAgent(args []string) (answer, error) {
	key, err := seedKey(args[1])
	if err != nil {
		return nil, err
	}
	keyring := agent.NewKeyring()
	if err := keyring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		return nil, err
	}
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("unix", args[0])
	if err != nil {
		return nil, err
	}
	ready := answer{"fingerprint": ssh.FingerprintSHA256(public)}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return nil, err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return nil, err
		}
		go func() {
			// Ends with an error when the witness hangs up, as it should.
			_ = agent.ServeAgent(keyring, connection)
			_ = connection.Close()
		}()
	}
}

// addWitnessLog tells a running litewitness which log to witness, in the way its own control program does: two rows
// in its database. That program itself needs a module that cannot be had everywhere.
func addWitnessLog(args []string) (answer, error) {
	verifier, err := note.NewVerifier(args[1])
	if err != nil {
		return nil, err
	}
	database, err := sqlite.OpenConn(args[0], sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	defer database.Close()
	empty, err := tlog.TreeHash(0, nil)
	if err != nil {
		return nil, err
	}
	rows := []struct {
		query string
		args  []any
	}{
		{"INSERT INTO log (origin, tree_size, tree_hash) VALUES (?, 0, ?)",
			[]any{verifier.Name(), base64.StdEncoding.EncodeToString(empty[:])}},
		{"INSERT INTO key (origin, key) VALUES (?, ?)", []any{verifier.Name(), args[1]}},
	}
	for _, row := range rows {
		if err := sqlitex.Execute(database, row.query, &sqlitex.ExecOptions{Args: row.args}); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
