package devstack

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/livestream-pro/livestream-pro/internal/config"
	"github.com/livestream-pro/livestream-pro/workflows"
)

// temporal-dev.yaml declares what the workflows set: an attribute that is missing
// there fails every workflow that sets it.
func TestTheDevelopmentTemporalHasTheSearchAttributes(t *testing.T) {
	t.Parallel()
	root, err := FindRoot()
	require.NoError(t, err)
	declared, err := LoadTemporalConfig(root)
	require.NoError(t, err)
	want := map[string]string{}
	for _, attribute := range workflows.SearchAttributes {
		want[attribute.GetName()] = attribute.GetValueType().String()
	}
	require.NotEmpty(t, want)
	require.Equal(t, want, declared.SearchAttributes)
	require.Equal(t, "livestream", declared.Namespace)
}

// compose is what is checked of docker-compose.yml.
type compose struct {
	Services map[string]struct {
		Image       string            `yaml:"image"`
		Build       any               `yaml:"build"`
		Command     any               `yaml:"command"`
		Environment map[string]string `yaml:"environment"`
		Volumes     []string          `yaml:"volumes"`
		Configs     []struct {
			Source string `yaml:"source"`
		} `yaml:"configs"`
		Healthcheck map[string]any `yaml:"healthcheck"`
		DependsOn   map[string]struct {
			Condition string `yaml:"condition"`
		} `yaml:"depends_on"`
	} `yaml:"services"`
	Configs map[string]any `yaml:"configs"`
	Volumes map[string]any `yaml:"volumes"`
}

func readCompose(t *testing.T) compose {
	t.Helper()
	root, err := FindRoot()
	require.NoError(t, err)
	content, err := os.ReadFile(filepath.Join(root, "docker-compose.yml"))
	require.NoError(t, err)
	var c compose
	require.NoError(t, yaml.Unmarshal(content, &c))
	return c
}

func TestComposeHasTheWholeStack(t *testing.T) {
	t.Parallel()
	c := readCompose(t)
	for _, name := range strings.Fields("postgres replica-1 replica-2 redis temporal temporal-ui s3 stripesim migrate api chat-1 chat-2 worker transcode") {
		require.Contains(t, c.Services, name)
	}
	for name, service := range c.Services {
		require.NotEmpty(t, service.Image, name)
		for on, how := range service.DependsOn {
			require.Contains(t, c.Services, on, "%s depends on it", name)
			if how.Condition == "service_healthy" {
				require.NotEmpty(t, c.Services[on].Healthcheck["test"], "%s waits for the health of %s", name, on)
			}
		}
		for _, volume := range service.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			require.Contains(t, c.Volumes, source, name)
		}
		for _, config := range service.Configs {
			require.Contains(t, c.Configs, config.Source, name)
		}
	}
}

func TestComposeGivesRolesWhatTheyRead(t *testing.T) {
	t.Parallel()
	c, known := readCompose(t), productVariables()
	for _, name := range strings.Fields("migrate api chat-1 chat-2 worker transcode") {
		given := c.Services[name].Environment
		for variable := range given {
			require.Contains(t, known, variable, "%s: nobody reads it", name)
		}
		for variable, required := range known {
			if required && name != "transcode" {
				require.NotEmpty(t, given[variable], "%s: %s", name, variable)
			}
		}
	}
}

// Transcoders open files of strangers.
func TestComposeGivesTranscodersNoKeys(t *testing.T) {
	t.Parallel()
	transcode := readCompose(t).Services["transcode"]
	for _, group := range []any{config.Postgres{}, config.Redis{}, config.Temporal{}, config.S3{}} {
		for i := range reflect.TypeOf(group).NumField() {
			tag := reflect.TypeOf(group).Field(i).Tag
			if _, required := tag.Lookup("required"); required {
				require.NotEmpty(t, transcode.Environment[tag.Get("env")], tag.Get("env"))
			}
		}
	}
	for variable := range transcode.Environment {
		require.NotRegexp(t, "^(STRIPE|JWT|VAPID)_", variable)
	}
	require.Empty(t, transcode.Volumes)
}

func TestComposeMakesTheSearchAttributes(t *testing.T) {
	t.Parallel()
	command := onlyWord(t, readCompose(t).Services["search-attributes"].Command)
	list := regexp.MustCompile(`for attribute in ([A-Za-z: ]+);`).FindStringSubmatch(command)
	require.NotNil(t, list)
	var want []string
	for _, attribute := range workflows.SearchAttributes {
		want = append(want, attribute.GetName()+":"+attribute.GetValueType().String())
	}
	require.ElementsMatch(t, want, strings.Fields(list[1]))
	require.Contains(t, command, "--namespace livestream")
}

// onlyWord is the only word of a command.
func onlyWord(t *testing.T, command any) string {
	t.Helper()
	words, ok := command.([]any)
	require.True(t, ok)
	require.Len(t, words, 1)
	return words[0].(string)
}
