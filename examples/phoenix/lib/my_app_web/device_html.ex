defmodule MyAppWeb.DeviceHTML do
  use Phoenix.Component

  def index(assigns) do
    ~H"""
    <h1>Your devices</h1>
    <table id="devices">
      <thead>
        <tr>
          <th>Device</th>
          <th>Logged in</th>
          <th>Renewed</th>
          <th></th>
        </tr>
      </thead>
      <tbody>
        <tr :for={device <- @devices}>
          <td>
            {device.metadata[:ip]}
            <strong :if={device.current?}>this device</strong>
            <em :if={device.persistent?}>kept logged in</em>
            <small>{device.metadata[:user_agent]}</small>
          </td>
          <td><.time at={device.began_at} /></td>
          <td><.time at={device.renewed_at} /></td>
          <td>
            <.button :if={device.current?} action="/session">Log out</.button>
            <.button :if={!device.current?} action={"/devices/#{device.fingerprint}"}>
              Log out
            </.button>
          </td>
        </tr>
      </tbody>
    </table>
    <.button action="/devices/others">Log out all other devices</.button>
    <.button action="/devices">Log out everywhere</.button>
    """
  end

  attr :action, :string, required: true
  slot :inner_block, required: true

  defp button(assigns) do
    ~H"""
    <.form for={%{}} action={@action} method="delete">
      <button>{render_slot(@inner_block)}</button>
    </.form>
    """
  end

  attr :at, DateTime, default: nil

  defp time(assigns) do
    ~H"""
    <time :if={@at} datetime={DateTime.to_iso8601(@at)}>
      {Calendar.strftime(@at, "%d %b %Y, %H:%M:%S")}
    </time>
    """
  end
end
