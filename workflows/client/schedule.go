package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/livestream-pro/livestream-pro/workflows"
)

// scheduleTimeout bounds what a worker's start waits for one schedule.
const scheduleTimeout = 10 * time.Second

// EnsureSchedules makes the schedules of a queue, or changes those that are not as
// workflows.Schedules has them. Any number of workers may do it at once. What an
// operator paused stays so.
func (c *Client) EnsureSchedules(ctx context.Context, queue string) error {
	for _, s := range workflows.Schedules {
		if s.Queue != queue {
			continue
		}
		if err := c.ensureSchedule(ctx, s); err != nil {
			return fmt.Errorf("schedule %s: %w", s.ID, err)
		}
	}
	return nil
}

func (c *Client) ensureSchedule(ctx context.Context, s workflows.Schedule) error {
	ctx, cancel := context.WithTimeout(ctx, scheduleTimeout)
	defer cancel()
	wanted := client.ScheduleOptions{
		ID:            s.ID,
		Spec:          client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: s.Every, Offset: s.Offset}}},
		Action:        &client.ScheduleWorkflowAction{ID: s.ID, Workflow: s.Workflow, TaskQueue: s.Queue, StaticSummary: s.Summary},
		Overlap:       s.Overlap,
		CatchupWindow: s.CatchUp,
	}
	_, err := c.temporal.ScheduleClient().Create(ctx, wanted)
	if !errors.Is(err, temporal.ErrScheduleAlreadyRunning) {
		return err
	}
	return c.temporal.ScheduleClient().GetHandle(ctx, s.ID).Update(ctx, client.ScheduleUpdateOptions{
		DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
			current := in.Description.Schedule
			if same(current, s) {
				return nil, temporal.ErrSkipScheduleUpdate
			}
			current.Spec, current.Action = &wanted.Spec, wanted.Action
			current.Policy.Overlap, current.Policy.CatchupWindow = s.Overlap, s.CatchUp
			return &client.ScheduleUpdate{Schedule: &current}, nil
		},
	})
}

func same(current client.Schedule, s workflows.Schedule) bool {
	action, ok := current.Action.(*client.ScheduleWorkflowAction)
	return ok && action.Workflow == s.Workflow && action.TaskQueue == s.Queue && action.StaticSummary == s.Summary &&
		len(current.Spec.Intervals) == 1 && current.Spec.Intervals[0] == client.ScheduleIntervalSpec{Every: s.Every, Offset: s.Offset} &&
		current.Policy.Overlap == s.Overlap && current.Policy.CatchupWindow == s.CatchUp
}
