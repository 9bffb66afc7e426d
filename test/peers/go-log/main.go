// Command go-log puts the log of this repository before programs that other people wrote: Tessera, the Go checksum
// database's tlog and note, the formats library of transparency-dev, and torchwood.
//
// One JSON object on standard output; exit code 0 for yes, 1 for no, 2 for a wrong command line.
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"k8s.io/klog/v2"
)

// An answer is what a command found out. A command that returns an error says no.
type answer map[string]any

var commands = map[string]struct {
	arguments string
	run       func(args []string) (answer, error)
}{
	"fsck":      {"LOG VKEY", fsckLog},
	"posix":     {"FOLDER SKEY ENTRIES SIZE...", growPosixLog},
	"sumdb":     {"LOG VKEY ENTRIES CLAIMS", checkWithSumdb},
	"proof":     {"POLICY VKEY ENTRY PROOF", checkProof},
	"mangle":    {"POLICY VKEY ENTRY PROOF", mangleProof},
	"cosigners": {"CHECKPOINT VKEY...", readCosignatures},
	"cosign":    {"CHECKPOINT NAME SEED", cosign},
	"agent":     {"SOCKET SEED", serveAgent},
	"add-log":   {"DATABASE VKEY", addWitnessLog},
}

func main() {
	// Tessera reports progress on standard error; ours is the one line below.
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)

	if len(os.Args) < 2 {
		usage("which command?")
	}
	command, ok := commands[os.Args[1]]
	args := os.Args[2:]
	if !ok {
		usage("no command " + os.Args[1])
	}
	wanted := strings.Fields(command.arguments)
	more := strings.HasSuffix(command.arguments, "...")
	if len(args) < len(wanted) || len(args) > len(wanted) && !more {
		usage("go-log " + os.Args[1] + " " + command.arguments)
	}
	found, err := command.run(args)
	if found == nil {
		found = answer{}
	}
	found["ok"] = err == nil
	if err != nil {
		found["error"] = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		panic(err)
	}
	if found["ok"] != true {
		os.Exit(1)
	}
}

func usage(problem string) {
	fmt.Fprintln(os.Stderr, problem)
	os.Exit(2)
}

// readEntries reads entries framed as in an entry bundle, any number of them: big-endian u16 length, then the bytes.
func readEntries(file string) ([][]byte, error) {
	rest, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var entries [][]byte
	for len(rest) > 0 {
		if len(rest) < 2 {
			return nil, errors.New("entries are cut short")
		}
		end := 2 + int(binary.BigEndian.Uint16(rest))
		if len(rest) < end {
			return nil, errors.New("entries are cut short")
		}
		entries = append(entries, bytes.Clone(rest[2:end]))
		rest = rest[end:]
	}
	return entries, nil
}
