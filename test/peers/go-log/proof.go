package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"filippo.io/torchwood"
	"github.com/transparency-dev/formats/log"
	cosignature "github.com/transparency-dev/formats/note"
	tlogproof "github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/formats/witness"
	merkleproof "github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A proofCase is one proof file and what it is to be judged by.
type proofCase struct {
	policy, entry, proof []byte
	vkey                 string
}

func readProofCase(args []string) (c proofCase, err error) {
	c.vkey = args[1]
	for file, into := range map[string]*[]byte{args[0]: &c.policy, args[2]: &c.entry, args[3]: &c.proof} {
		if *into, err = os.ReadFile(file); err != nil {
			return c, err
		}
	}
	return c, nil
}

// checkProof asks both libraries; each is free to refuse alone, and both must accept.
func checkProof(args []string) (answer, error) {
	c, err := readProofCase(args)
	if err != nil {
		return nil, err
	}
	byTorchwood, byFormats := c.torchwood(), c.formats()
	found := answer{"torchwood": text(byTorchwood), "formats": text(byFormats)}
	return found, errors.Join(byTorchwood, byFormats)
}

// mangleProof flips each bit of the proof file and tells which bytes either library accepts with one bit flipped.
func mangleProof(args []string) (answer, error) {
	c, err := readProofCase(args)
	if err != nil {
		return nil, err
	}
	accepted := map[string][]int{"torchwood": {}, "formats": {}}
	original := c.proof
	for at := range original {
		for bit := range 8 {
			c.proof = bytes.Clone(original)
			c.proof[at] ^= 1 << bit
			if c.torchwood() == nil {
				accepted["torchwood"] = append(accepted["torchwood"], at)
			}
			if c.formats() == nil {
				accepted["formats"] = append(accepted["formats"], at)
			}
		}
	}
	return answer{"tried": len(original) * 8, "accepted": accepted}, nil
}

func (c proofCase) torchwood() error {
	policy, err := torchwood.ParsePolicy(c.policy)
	if err != nil {
		return err
	}
	return torchwood.VerifyProof(policy, tlog.RecordHash(c.entry), c.proof)
}

func (c proofCase) formats() error {
	quorum, err := witness.ParsePolicy(c.policy)
	if err != nil {
		return err
	}
	verifier, err := note.NewVerifier(c.vkey)
	if err != nil {
		return err
	}
	var parsed tlogproof.TLogProof
	if err := parsed.Unmarshal(c.proof); err != nil {
		return err
	}
	opened, err := note.Open(parsed.Checkpoint, note.VerifierList(verifier))
	if err != nil {
		return err
	}
	if !quorum.Satisfied(parsed.Checkpoint) {
		return errors.New("the witness policy is not satisfied")
	}
	var checkpoint log.Checkpoint
	if rest, err := checkpoint.Unmarshal([]byte(opened.Text)); err != nil || len(rest) > 0 {
		return fmt.Errorf("not a checkpoint: %v", err)
	}
	if checkpoint.Origin != verifier.Name() {
		return errors.New("a checkpoint of another log")
	}
	var hashes [][]byte
	for _, hash := range parsed.Hashes {
		hashes = append(hashes, hash[:])
	}
	hasher := rfc6962.DefaultHasher
	leaf := hasher.HashLeaf(c.entry)
	if err := merkleproof.VerifyInclusion(hasher, parsed.Index, checkpoint.Size, leaf, hashes, checkpoint.Hash); err != nil {
		return err
	}
	// One spelling for each proof: what the library writes is what we wrote.
	if !bytes.Equal(parsed.Marshal(), c.proof) {
		return errors.New("the library writes this proof another way")
	}
	return nil
}

// readCosignatures verifies the type 04 lines of a checkpoint with both libraries and tells when each was made.
func readCosignatures(args []string) (answer, error) {
	signed, err := os.ReadFile(args[0])
	if err != nil {
		return nil, err
	}
	times := map[string][]int64{}
	for _, vkey := range args[1:] {
		byTorchwood, err := torchwood.NewCosignatureVerifier(vkey)
		if err != nil {
			return nil, err
		}
		byFormats, err := cosignature.NewVerifierForCosignatureV1(vkey)
		if err != nil {
			return nil, err
		}
		if byTorchwood.KeyHash() != byFormats.KeyHash() || byTorchwood.String() != vkey {
			return nil, errors.New("the libraries read the key differently")
		}
		for _, verifier := range []note.Verifier{byTorchwood, byFormats} {
			opened, err := note.Open(signed, note.VerifierList(verifier))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", verifier.Name(), err)
			}
			seconds, err := torchwood.CosignatureTimestamp(opened.Sigs[0])
			if err != nil {
				return nil, err
			}
			moment, err := cosignature.CoSigV1Timestamp(opened.Sigs[0])
			if err != nil {
				return nil, err
			}
			times[verifier.Name()] = append(times[verifier.Name()], seconds, moment.Unix())
		}
	}
	return answer{"times": times}, nil
}

// cosign signs a checkpoint as a witness would, once with each library, for our verifier to read.
func cosign(args []string) (answer, error) {
	signed, err := os.ReadFile(args[0])
	if err != nil {
		return nil, err
	}
	key, err := seedKey(args[2])
	if err != nil {
		return nil, err
	}
	byTorchwood, err := torchwood.NewCosignatureSigner(args[1], key)
	if err != nil {
		return nil, err
	}
	byFormats, err := cosignature.NewSignerForCosignatureV1(signerKey(byTorchwood, key))
	if err != nil {
		return nil, err
	}
	body, _, found := strings.Cut(string(signed), "\n\n")
	if !found {
		return nil, errors.New("not a signed note")
	}
	answers := answer{"vkey": byTorchwood.Verifier().String()}
	for name, signer := range map[string]note.Signer{"torchwood": byTorchwood, "formats": byFormats} {
		cosigned, err := note.Sign(&note.Note{Text: body + "\n"}, signer)
		if err != nil {
			return nil, err
		}
		_, lines, _ := strings.Cut(string(cosigned), "\n\n")
		answers[name] = lines
	}
	return answers, nil
}

func seedKey(text string) (ed25519.PrivateKey, error) {
	seed, err := hex.DecodeString(text)
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, errors.New("a seed is 64 hexadecimal digits")
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// signerKey is the key in the note package's spelling: PRIVATE+KEY+name+id+type and seed.
func signerKey(signer note.Signer, key ed25519.PrivateKey) string {
	typed := append([]byte{4}, key.Seed()...)
	return fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", signer.Name(), signer.KeyHash(), base64.StdEncoding.EncodeToString(typed))
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
