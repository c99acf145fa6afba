package devstack

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Nothing is left of a stack whose own process is killed.
func TestChildrenDieWithTheirParent(t *testing.T) {
	t.Parallel()
	s, _ := newStack(t)
	defer s.Close()
	self, err := os.Executable()
	require.NoError(t, err)
	parent := exec.Command(self)
	parent.Env = append(os.Environ(), helperVariable+"=parent", "DEVSTACK_DIR="+s.options.Dir)
	stdout, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	child := number(line)
	require.NoError(t, syscall.Kill(child, 0))

	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait()
	require.Eventually(t, func() bool {
		_, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", child))
		return err != nil
	}, 10*time.Second, 10*time.Millisecond)
}
